"""Models, rows and configurations of the parts: of real size on a GPU, tiny on a CPU."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.data.gathering import count_gpus
from sweeper.quickstart import DATA_FILE, MODEL_DIR
from sweeper.space import Config

__all__ = [
    "HAS_GPU",
    "SCALE",
    "Model",
    "config_of",
    "flops_per_token",
    "model_folder",
    "peak_flops",
    "rows_file",
]

HAS_GPU = count_gpus() > 0
ROWS = 2000 if HAS_GPU else 300
_QUESTIONS = [10, 34, 40, 44, 49, 54, 60, 66, 75, 90, 248]
_ANSWERS = [12, 34, 42, 49, 57, 64, 73, 84, 98, 120, 307]
"""Deciles of the lengths of GSM8K's 7,473 training rows, in bytes / 4, which is about a token."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Model:
    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    words: int

    @property
    def layer_parameters(self) -> int:
        kv = self.width * self.kv_heads // self.heads
        return self.layers * (2 * self.width**2 + 2 * self.width * kv + 3 * self.width * self.mlp)

    @property
    def parameters(self) -> int:
        return self.layer_parameters + self.words * self.width


@dataclass(frozen=True)
class Scale:
    models: dict[str, Model]
    rows: dict[str, int]
    """Of a micro-batch, by model; packed, a quarter as many sequences."""
    max_seq_len: int
    steps: int
    precision: str
    trials: int
    """Of the part growth."""


SCALE = (
    Scale(
        {"0.1 B": Model(768, 2048, 12, 12, 4, 32_000), "1 B": Model(2048, 5632, 20, 32, 8, 32_000)},
        {"0.1 B": 64, "1 B": 16}, 1024, 30, "bf16", 20,
    )
    if HAS_GPU
    else Scale(
        {"0.1 B": Model(64, 128, 2, 4, 2, 2048), "1 B": Model(96, 256, 2, 4, 2, 2048)},
        {"0.1 B": 8, "1 B": 4}, 512, 6, "bf16", 6,
    )
)  # fmt: skip


@cache
def model_folder(out: Path, name: str) -> Path:
    """With random weights and the packaged tokenizer; made once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder, size = out / "models" / name.replace(" ", ""), SCALE.models[name]
    if (folder / "chat_template.jinja").exists():
        return folder
    torch.manual_seed(0)
    sizes = LlamaConfig(
        vocab_size=size.words, hidden_size=size.width, intermediate_size=size.mlp,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
        max_position_embeddings=2048, tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip
    with torch.device("cuda" if HAS_GPU else "cpu"):
        model = LlamaForCausalLM(sizes).to(torch.bfloat16)
    model.save_pretrained(folder)
    for file in _TOKENIZER:
        (folder / file).write_bytes((MODEL_DIR / file).read_bytes())
    del model
    if HAS_GPU:
        torch.cuda.empty_cache()
    return folder


@cache
def rows_file(out: Path) -> Path:
    """Questions and answers of known words, as long as those of GSM8K."""
    from sweeper.data import load_tokenizer

    file, drawn = out / "rows.jsonl", random.Random(0)
    if file.exists():
        return file
    tokenizer = load_tokenizer("builtin:quickstart")
    text = " ".join(json.loads(line)["completion"] for line in DATA_FILE.read_text().splitlines())
    words = sorted(set(text.split()))
    lengths = {word: len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) for word in words}

    def said(deciles: list[int]) -> str:
        left = int(np.interp(drawn.random(), np.linspace(0, 1, 11), deciles))
        chosen: list[str] = []
        while left > 0:
            chosen.append(drawn.choice(words))
            left -= lengths[chosen[-1]]
        return " ".join(chosen)

    rows = [{"prompt": said(_QUESTIONS), "completion": said(_ANSWERS)} for _ in range(ROWS)]
    draft = file.with_suffix(".partial")
    draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draft.replace(file)
    return file


def config_of(out: Path, name: str, *, rows: int | None = None, packing: bool = False, **more: Any) -> Config:
    """One rank on the GPU; ``more``: lora, gpus_per_rank, memory_limit_gib, and fields of deepspeed."""
    each = rows or (max(1, SCALE.rows[name] // 4) if packing else SCALE.rows[name])
    resources = {"max_concurrent": 1, "cpus_per_rank": 4 if HAS_GPU else 1, "gpus_per_rank": int(HAS_GPU)}
    resources |= {key: more.pop(key) for key in ("gpus_per_rank", "memory_limit_gib") if key in more}
    training = {
        "lr": 1e-4, "scheduler": "linear", "final_lr_ratio": 0.0, "warmup_ratio": 0.0, "decay_ratio": 0.2,
        "epochs": 1, "per_device_batch_size": each, "gradient_accumulation_steps": 1,
        "global_batch_size": each, "max_seq_len": SCALE.max_seq_len, "packing": packing,
        "lora": more.pop("lora", False),
    }  # fmt: skip
    return Config.model_validate(
        {
            "name": "gpu",
            "model_path": str(model_folder(out, name)),
            "data_path": str(rows_file(out)),
            "eval_data": 0.02,
            "objective": {"evaluations": 3},
            "training": training,
            "deepspeed": {"zero_stage": 0, "precision": SCALE.precision, **more},
            "resources": resources,
        }
    )


def flops_per_token(model: Model, mean_row: float) -> float:
    """Forth and back: 6 for each parameter that multiplies, the output matrix among them, and attention to
    half of the row (Chowdhery et al. 2022, arXiv:2204.02311, appendix B, made causal)."""
    return 6.0 * model.parameters + 6.0 * model.layers * model.width * mean_row


def peak_flops() -> float | None:
    """Of dense bf16, by the card's data sheet; None where it is not known here."""
    if not HAS_GPU:
        return None
    import torch

    sheets = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
    name = torch.cuda.get_device_name()
    return next((flops for card, flops in sheets.items() if card in name), None)
