"""A plain supervised fine-tuning loop over DeepSpeed, as a careful user writes it: what its Autotuner tunes.

    deepspeed tests/benchmarks/plain_deepspeed_sft.py --deepspeed_config ds.json --model FOLDER --data FILE

It knows nothing of sweeper. Rows are padded to the longest of their micro-batch, loss is on completions.
With ``--report`` it writes the real (non-padding) tokens per second of its optimizer steps as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.dataloader import RepeatingLoader
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

NO_LOSS = -100
WARM_UP_STEPS = 2
"""Optimizer steps that are left out of the report."""


def main() -> None:
    arguments = parsed()
    train(*set_up(arguments), arguments)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """``words`` are those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path, help="JSONL of prompt/completion or messages")
    parser.add_argument("--max-seq-len", type=int, default=512)
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps")
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--local_rank", type=int, default=0)
    return deepspeed.add_config_arguments(parser).parse_args(words)


def set_up(arguments: argparse.Namespace) -> tuple[Any, Iterator[dict[str, torch.Tensor]]]:
    """DeepSpeed's engine, and micro-batches without end."""
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    deepspeed.init_distributed(dist_backend="gloo")
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.0, fused=True)
    engine, *_ = deepspeed.initialize(args=arguments, model=model, optimizer=optimizer)
    # The engine's own loader starts two processes, which want the cores that train.
    loader = DataLoader(
        rows_of(arguments.data, tokenizer, arguments.max_seq_len),
        batch_size=engine.train_micro_batch_size_per_gpu(),
        shuffle=True,
        drop_last=True,
        collate_fn=Padding(tokenizer.pad_token_id or 0),
        generator=torch.Generator().manual_seed(0),
    )
    engine.train()
    return engine, iter(RepeatingLoader(loader))


def train(engine: Any, batches: Iterator[dict[str, torch.Tensor]], arguments: argparse.Namespace) -> None:
    times, tokens = [], []
    for _ in range(arguments.steps):
        tokens.append(optimizer_step(engine, batches))
        times.append(time.perf_counter())
    if arguments.report:
        arguments.report.write_text(json.dumps(speed_of(times, tokens)))


def optimizer_step(engine: Any, batches: Iterator[dict[str, torch.Tensor]]) -> int:
    """Returns how many tokens were no padding."""
    real = 0
    for _ in range(engine.gradient_accumulation_steps()):
        batch = next(batches)
        real += int(batch["attention_mask"].sum())
        engine.backward(engine(**batch, use_cache=False).loss)
        engine.step()
    return real


def speed_of(times: list[float], tokens: list[int]) -> dict[str, float]:
    """``times`` are the ends of optimizer steps, ``tokens`` what is no padding in each."""
    seconds = times[-1] - times[WARM_UP_STEPS - 1]
    timed = tokens[WARM_UP_STEPS:]
    return {"tokens_per_s": sum(timed) / seconds, "step_s": seconds / len(timed), "steps": len(timed)}


def rows_of(file: Path, tokenizer: Any, max_seq_len: int) -> list[dict[str, list[int]]]:
    """Token ids and labels of each row, cut at ``max_seq_len``; rows without loss are left out."""
    with file.open(encoding="utf-8") as lines:
        rows = [encode(json.loads(line), tokenizer, max_seq_len) for line in lines]
    return [row for row in rows if any(label != NO_LOSS for label in row["labels"])]


def encode(fields: dict[str, Any], tokenizer: Any, max_seq_len: int) -> dict[str, list[int]]:
    messages = fields.get("messages") or [
        {"role": "user", "content": fields["prompt"]},
        {"role": "assistant", "content": fields["completion"]},
    ]
    ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    prompt = tokenizer.apply_chat_template(messages[:-1], return_dict=True, add_generation_prompt=True)
    masked = len(prompt["input_ids"])
    labels = [NO_LOSS] * masked + ids[masked:]
    return {"input_ids": ids[:max_seq_len], "labels": labels[:max_seq_len]}


class Padding:
    """Rows of a micro-batch, padded on the right to the longest of them."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], self.pad_id),
            "labels": _padded([row["labels"] for row in rows], NO_LOSS),
            "attention_mask": _padded([[1] * len(row["input_ids"]) for row in rows], 0),
        }


def _padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


if __name__ == "__main__":
    main()
