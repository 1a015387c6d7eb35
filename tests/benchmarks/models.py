"""What the benchmarks train: rows, and models with random weights and the packaged tokenizer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from sweeper.quickstart import DATA_FILE, MODEL_DIR

__all__ = ["write_model", "write_rows"]

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def write_rows(file: Path, rows: int = 300) -> None:
    """Questions and answers of 60 to 260 words."""
    chosen = random.Random(0)
    words = " ".join(json.loads(line)["completion"] for line in DATA_FILE.read_text().splitlines()).split()
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            prompt = " ".join(chosen.choices(words, k=chosen.randint(20, 80)))
            completion = " ".join(chosen.choices(words, k=chosen.randint(40, 180)))
            stream.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def write_model(name: str, folder: Path) -> None:
    import torch
    import transformers as hf

    common = {"max_position_embeddings": 1024}
    settings: dict[str, Any] = {
        "llama": lambda: hf.LlamaConfig(
            vocab_size=8192, hidden_size=384, intermediate_size=1024, num_hidden_layers=8,
            num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True, **common,
        ),
        "llama-small": lambda: hf.LlamaConfig(
            vocab_size=8192, hidden_size=256, intermediate_size=704, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, **common,
        ),
        "llama-wide": lambda: hf.LlamaConfig(
            vocab_size=24576, hidden_size=512, intermediate_size=1408, num_hidden_layers=8,
            num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=False, **common,
        ),
        "llama-12m": lambda: hf.LlamaConfig(
            vocab_size=2048, hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
            num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True, **common,
        ),
        "smollm2-135m": lambda: hf.LlamaConfig(  # as its config.json says
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
            num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, **common,
        ),
        "qwen": lambda: hf.Qwen2Config(
            vocab_size=32768, hidden_size=448, intermediate_size=1216, num_hidden_layers=8,
            num_attention_heads=7, num_key_value_heads=1, tie_word_embeddings=True, **common,
        ),
        "gpt2": lambda: hf.GPT2Config(vocab_size=16384, n_embd=512, n_layer=8, n_head=8, n_positions=1024),
    }  # fmt: skip
    torch.manual_seed(0)
    hf.AutoModelForCausalLM.from_config(settings[name]()).save_pretrained(folder)
    for file in _TOKENIZER:
        (folder / file).write_bytes((MODEL_DIR / file).read_bytes())
