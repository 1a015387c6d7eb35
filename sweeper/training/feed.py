"""The batches of a rank: which rows it trains on at which step, and which it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from sweeper.data import SequenceSet, TokenizedData, arrange, best_fit, run_plan, spread, tokens_after
from sweeper.space import Config
from sweeper.training.model.attention import Layout
from sweeper.training.model.loss import DeviceBatch, device_batch

__all__ = ["EvaluationFeed", "TrainingFeed", "data_rank"]

_KEPT_TOKENS = 2**20
"""Held-out batches of so many tokens together, about 25 MiB, are kept."""
_PADDED_EVALUATION_ROWS = 8
"""Rows of one held-out batch for a model that cannot take rows one after another."""


def data_rank(config: Config, rank: int) -> int:
    """Which part of the data a rank works on: ranks of one model replica have the same.

    Ranks count tensor-parallel neighbours first, then data-parallel replicas, then pipeline stages,
    which is DeepSpeed's own order.
    """
    return rank // config.parallel.tp % config.parallel.dp


class TrainingFeed:
    """The training batches of one rank. Everything about them is known before the first step."""

    on_pass: Callable[[], None] | None = None
    """Called when a forward pass gets its rows."""

    def __init__(
        self,
        config: Config,
        data: TokenizedData,
        rank: int,
        layout: Layout,
        device: torch.device | str,
        *,
        steps: int | None = None,
    ) -> None:
        """``steps`` optimizer steps, or as many as the configuration's epochs have."""
        rows = SequenceSet.of(config, data.train)
        plan = run_plan(config, len(rows.bins), steps=steps)
        self.data, self.layout, self.device = data, layout, device
        self.data_rank = data_rank(config, rank)
        self.bins, self._tokens, self._completions = rows.bins, rows.tokens, rows.completions
        self.plan = arrange(plan, self._tokens, alike=layout == "padded")
        """int64 [steps, accumulation, dp, per device]: indices into ``bins``."""
        self.tokens_after = tokens_after(plan, self._tokens)
        """int64 [steps]: real tokens seen by all ranks after each step."""
        self.completion_tokens = self._completions[plan].sum(axis=(1, 2, 3))
        """int64 [steps]: tokens that carry loss in each global batch."""

    @property
    def steps(self) -> int:
        return len(self.plan)

    @property
    def total_tokens(self) -> int:
        return int(self.tokens_after[-1])

    def micro_batches(self, step: int) -> Iterator[DeviceBatch]:
        for micro in self.plan[step, :, self.data_rank]:
            if self.on_pass is not None:
                self.on_pass()
            rows = np.concatenate([self.bins[i] for i in micro])
            yield device_batch(
                self.data.train, rows, layout=self.layout, pad_id=self.data.pad_id, device=self.device
            )

    def largest_passes(self, steps: int) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Tokens and completion tokens of each pass of the first steps, on the rank that has most."""
        plan = self.plan[:steps]
        each = (one[plan].sum(axis=3).max(axis=2) for one in (self._tokens, self._completions))
        return tuple(
            tuple((int(t), int(c)) for t, c in zip(*step, strict=True)) for step in zip(*each, strict=True)
        )


class _MadeWhenAsked:
    """So many batches, none of which is kept."""

    def __init__(self, make: Callable[[int], tuple[DeviceBatch, bool]], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[DeviceBatch, bool]]:
        return map(self._make, range(self._count))


class EvaluationFeed:
    """The held-out batches of one rank: the same for every trial, so they are made once and kept, as long as
    they are few; many would fill the device's memory, and each is made when its turn comes.

    Rows are packed into batches of at most ``max_seq_len`` tokens; a padded layout groups them by
    length. Every rank gets the same number of batches, because ZeRO-3 gathers weights in step; a
    rank without a batch of its own repeats one that does not count.
    """

    def __init__(
        self,
        config: Config,
        data: TokenizedData,
        rank: int,
        layout: Layout,
        device: torch.device | str,
        *,
        most_rows: int | None = None,
        rows_apart: bool = False,
    ) -> None:
        """``rows_apart`` makes a batch of each row."""
        chosen = spread(data.eval.rows, most_rows)
        lengths, dp = data.eval.lengths[chosen], config.parallel.dp
        if rows_apart:
            groups = list(chosen[:, None])
        else:
            groups = [chosen[one] for one in _held_out_groups(lengths, config.training.max_seq_len, layout)]
        self.tokens = int(lengths.sum())
        """Of all ranks together."""
        rounds, first = -(-len(groups) // dp), data_rank(config, rank)

        def batch(turn: int) -> tuple[DeviceBatch, bool]:
            index = first + turn * dp
            rows = groups[min(index, len(groups) - 1)]
            made = device_batch(data.eval, rows, layout=layout, pad_id=data.pad_id, device=device)
            return made, index < len(groups)

        made_when_asked = _MadeWhenAsked(batch, rounds)
        self.batches = made_when_asked if self.tokens > _KEPT_TOKENS else list(made_when_asked)
        """Each batch and whether it counts."""

    def largest_pass(self) -> tuple[int, int]:
        """Tokens, and positions with loss, of the largest batch."""
        return (
            max(batch.input_ids.numel() for batch, _ in self.batches),
            max(batch.targets.numel() for batch, _ in self.batches),
        )


def _held_out_groups(
    lengths: np.ndarray[Any, Any], max_seq_len: int, layout: Layout
) -> list[np.ndarray[Any, Any]]:
    if layout == "padded":
        order, size = np.argsort(lengths, kind="stable"), _PADDED_EVALUATION_ROWS
        return [order[start : start + size] for start in range(0, len(order), size)]
    return best_fit(lengths, max(max_seq_len, int(lengths.max())))
