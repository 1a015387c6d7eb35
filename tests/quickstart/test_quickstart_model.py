"""The embedded model loads as any model folder does, knows its text, and has instructions to learn."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from quickstart_maker.pretrain import Recipe, next_token_loss, pretrain, save, token_stream
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from sweeper.quickstart import DATA_FILE, MODEL_DIR

pytestmark = pytest.mark.slow

HELD_OUT_ROWS = 64
BATCH_ROWS = 16
Row = tuple[list[int], int]
"""Token ids of prompt and completion, and where the completion starts."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)


def _messages(row: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """All instruction rows as tokens, through the chat template."""
    encoded: list[Row] = []
    for line in DATA_FILE.read_text(encoding="utf-8").splitlines():
        messages = _messages(json.loads(line))
        asked = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        prompt_ids, ids = tokenizer(asked).input_ids, tokenizer(whole).input_ids
        assert ids[: len(prompt_ids)] == prompt_ids
        encoded.append((ids, len(prompt_ids)))
    return encoded


def _completion_loss(model: LlamaForCausalLM, batch: list[Row]) -> torch.Tensor:
    longest = max(len(ids) for ids, _ in batch)
    inputs = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full_like(inputs, -100)
    for place, (ids, start) in enumerate(batch):
        inputs[place, : len(ids)] = torch.tensor(ids)
        labels[place, start : len(ids)] = torch.tensor(ids[start:])
    logits = model(input_ids=inputs, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def _fine_tune(model: LlamaForCausalLM, rows: list[Row], *, lr: float, steps: int) -> float:
    """The held-out completion loss after ``steps`` of AdamW with a linear fall of the learning rate."""
    train, held_out = rows[HELD_OUT_ROWS:], rows[:HELD_OUT_ROWS]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, fused=True)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        _completion_loss(model, train[step * BATCH_ROWS : (step + 1) * BATCH_ROWS]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        return float(_completion_loss(model, held_out))


def test_the_model_is_a_llama_of_one_to_three_million_parameters(model: LlamaForCausalLM) -> None:
    assert model.config.model_type == "llama"
    assert 1_000_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 3_000_000


def test_the_folder_stays_below_eight_megabytes() -> None:
    files = [
        path for path in MODEL_DIR.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_the_model_folder_is_complete() -> None:
    names = {path.name for path in MODEL_DIR.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert {"tokenizer_config.json", "chat_template.jinja"} <= names


def test_model_and_tokenizer_agree(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == model.config.vocab_size == model.get_input_embeddings().weight.shape[0]
    assert tokenizer.eos_token_id == model.config.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.model_max_length == model.config.max_position_embeddings


def test_the_chat_template_ends_each_turn_and_comes_back_from_tokens(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    messages = [
        {"role": "system", "content": "Write."},
        *_messages({"prompt": "Sort: b, a", "completion": "a, b"}),
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|system|>Write.<|end|><|user|>Sort: b, a<|end|><|assistant|>a, b<|end|>"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert ids.count(tokenizer.eos_token_id) == 3
    asked = tokenizer.apply_chat_template(messages[:2], add_generation_prompt=True, tokenize=False)
    assert text.startswith(asked) and asked.endswith("<|assistant|>")


def test_offsets_of_tokens_cover_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    text = tokenizer.apply_chat_template(
        _messages({"prompt": "Is 12 é?", "completion": "No, it is 3."}), tokenize=False
    )
    offsets = tokenizer(text, return_offsets_mapping=True).offset_mapping
    assert offsets[0][0] == 0 and offsets[-1][1] == len(text)
    assert all(start <= end for (_, end), (start, _) in pairwise(offsets))


def test_the_rows_are_short(rows: list[Row]) -> None:
    lengths = [len(ids) for ids, _ in rows]
    assert max(lengths) < 64
    assert sum(lengths) / len(lengths) < 45


def test_the_base_model_knows_fresh_text_of_its_kind(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    stream = token_stream(tokenizer.backend_tokenizer, seed=123_456, tokens=4096)
    with torch.no_grad():
        loss = float(next_token_loss(model, torch.from_numpy(stream).view(32, 128)))
    assert loss < 0.3 * math.log(model.config.vocab_size)


def test_a_short_fine_tuning_halves_the_held_out_loss_at_the_right_learning_rate(
    model: LlamaForCausalLM, rows: list[Row]
) -> None:
    def loss_at(lr: float) -> float:
        model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
        return _fine_tune(model, rows, lr=lr, steps=40)

    with torch.no_grad():
        untrained = float(_completion_loss(model.eval(), rows[:HELD_OUT_ROWS]))
    between = loss_at(2e-3)
    assert between < 0.5 * untrained
    assert between < loss_at(3e-5) - 0.5
    assert between < loss_at(1e-1) - 0.5


def test_the_recipe_writes_a_whole_model_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "stale").touch()
    save(
        *pretrain(Recipe(steps=2, batch_sequences=2, tokenizer_documents=400, warmup_steps=1)),
        folder,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (folder / "stale").exists()
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == len(
        AutoTokenizer.from_pretrained(folder)
    )
