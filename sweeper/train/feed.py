"""Which rows a rank trains on at which step, and where on the tokens-seen axis the evaluations lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sweeper.data import TokenizedData, batch_plan, collate, sequences
from sweeper.spec import Config
from sweeper.train.loss import DeviceBatch, to_device

__all__ = ["EvaluationFeed", "TrainingFeed", "evaluation_steps"]


@dataclass(frozen=True, kw_only=True)
class TrainingFeed:
    """The training batches of one rank. Everything about them is known before the first step."""

    data: TokenizedData
    bins: list[np.ndarray[Any, Any]]
    """Row indices that share a sequence."""
    plan: np.ndarray[Any, Any]
    """int64 [steps, accumulation, dp, per device]: indices into ``bins``."""
    rank: int
    packed: bool
    device: torch.device | str
    tokens_after: np.ndarray[Any, Any]
    """int64 [steps]: real tokens seen by all ranks after each step."""
    completion_tokens: np.ndarray[Any, Any]
    """int64 [steps]: tokens that carry loss in each global batch."""

    @classmethod
    def of(cls, config: Config, data: TokenizedData, rank: int, device: torch.device | str) -> TrainingFeed:
        training = config.training
        bins = sequences(data.train, packing=training.packing, max_seq_len=training.max_seq_len)
        plan = batch_plan(
            sequences=len(bins),
            epochs=training.epochs,
            per_device_batch_size=training.per_device_batch_size,
            accumulation=training.gradient_accumulation_steps,
            dp=config.parallel.dp,
            seed=training.seed,
        )
        lengths, completion_tokens = data.train.lengths, data.train.completion_tokens
        tokens = np.array([lengths[rows].sum() for rows in bins], dtype=np.int64)
        completions = np.array([completion_tokens[rows].sum() for rows in bins], dtype=np.int64)
        return cls(
            data=data,
            bins=bins,
            plan=plan,
            rank=rank,
            packed=training.packing,
            device=device,
            tokens_after=np.cumsum(tokens[plan].sum(axis=(1, 2, 3))),
            completion_tokens=completions[plan].sum(axis=(1, 2, 3)),
        )

    @property
    def steps(self) -> int:
        return len(self.plan)

    @property
    def total_tokens(self) -> int:
        return int(self.tokens_after[-1])

    def micro_batches(self, step: int) -> Iterator[DeviceBatch]:
        for micro in self.plan[step, :, self.rank]:
            batch = collate(self.data.train, [self.bins[i] for i in micro], self.data.pad_id)
            yield to_device(batch, self.device, packed=self.packed)


class EvaluationFeed:
    """The held-out batches of one rank: the same for every trial, so they are made once and kept.

    Rows are grouped by length. Every rank gets the same number of batches, because ZeRO-3
    gathers weights in step; a rank without a batch of its own repeats one that does not count.
    """

    def __init__(
        self, data: TokenizedData, *, batch_rows: int, rank: int, ranks: int, device: torch.device | str
    ) -> None:
        order = np.argsort(data.eval.lengths, kind="stable")
        groups = [order[start : start + batch_rows] for start in range(0, len(order), batch_rows)]
        rounds = -(-len(groups) // ranks)
        own = [round_ * ranks + rank for round_ in range(rounds)]
        self.batches: list[tuple[DeviceBatch, bool]] = []
        """Each batch and whether it counts."""
        for index in own:
            rows = groups[min(index, len(groups) - 1)]
            batch = collate(data.eval, [rows[i : i + 1] for i in range(len(rows))], data.pad_id)
            self.batches.append((to_device(batch, device, packed=False), index < len(groups)))


def evaluation_steps(tokens_after: np.ndarray[Any, Any], evaluations: int) -> list[int]:
    """After how many optimizer steps to evaluate: evenly spaced over the training tokens, last at the end.

    A trial with fewer steps than evaluations is evaluated after each step.
    """
    total = tokens_after[-1]
    targets = total * np.arange(1, evaluations + 1) / evaluations
    steps = np.searchsorted(tokens_after, targets - 1e-6, side="left") + 1
    return sorted({int(min(step, len(tokens_after))) for step in steps})
