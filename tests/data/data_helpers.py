"""What several tests of the data room share."""

from __future__ import annotations

import json
from pathlib import Path

from sweeper.data.problems import Problems
from sweeper.data.read.files import sources_of
from sweeper.data.read.read import Row, read_rows

WITH_DEFAULT = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with a system message of its own: it knows any role and no tools."""

CORPUS = [
    "How many eggs does the duck lay every day, and what is the price of a dozen at the market?",
    "system user assistant tool question answer instruction output prompt completion",
    "The quick brown fox jumps over the lazy dog. 0123456789 + - * / = $ % é ü 日本 🙂",
    "def add(a, b):\n\treturn a + b\n\nSELECT name, COUNT(*) FROM orders GROUP BY name;",
]


def save_tokenizer(
    folder: Path,
    *,
    chat_template: str | None,
    eos: str | None = "<|im_end|>",
    bos: str = "",
    markers: tuple[str, ...] = (),
) -> Path:
    """A byte-level BPE tokenizer of a few hundred tokens, saved as a model's folder has it; ``markers`` are
    tokens more."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=["<|im_start|>", "<|im_end|>", "<|pad|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.add_special_tokens([*markers])
    special = {"eos_token": eos, "bos_token": bos or None, "pad_token": "<|pad|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    vocab = 420 + len(set(markers) - {"<|im_start|>", "<|im_end|>"})
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": vocab, "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    return folder


def rows_of(*data_paths: str) -> list[Row]:
    """Every row of the paths. Raises DataError with all problems of all files."""
    problems = Problems()
    sources = [source for group in sources_of(data_paths, problems) for source in group]
    rows = [row for source in sources for row in read_rows(source, problems)]
    problems.raise_if_any()
    return rows


def mark(text: str, stretches: list[tuple[int, int]]) -> str:
    """The text with each stretch between « and »."""
    for start, end in reversed(stretches):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text
