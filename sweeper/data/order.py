"""Which sequences a run trains on at which step, and where on the tokens-seen axis its evaluations lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.data.batches import IntArray, batch_plan, sequences

if TYPE_CHECKING:
    from sweeper.data.cache import TokenizedSplit
    from sweeper.space import Config

__all__ = ["SequenceSet", "evaluation_steps", "run_plan", "tokens_after"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceSet:
    """The training sequences, in no order."""

    bins: list[IntArray]
    """Row indices that share a sequence."""
    tokens: IntArray
    """[sequences]: real tokens of each."""
    completions: IntArray
    """[sequences]: tokens of each that carry loss."""

    @classmethod
    def of(cls, config: Config, split: TokenizedSplit) -> SequenceSet:
        """Raises what ``sequences`` raises."""
        training = config.training
        bins = sequences(split, packing=training.packing, max_seq_len=training.max_seq_len)
        firsts = np.cumsum([0, *map(len, bins[:-1])])
        rows = np.concatenate(bins)
        return cls(
            bins=bins,
            tokens=np.add.reduceat(split.lengths[rows], firsts),
            completions=np.add.reduceat(split.completion_tokens[rows], firsts),
        )


def run_plan(config: Config, sequences: int, *, steps: int | None = None) -> IntArray:
    """``batch_plan`` of ``steps`` optimizer steps, or of as many as the configuration's epochs have. Two runs
    that differ in their length alone have the same rows in the same order for as long as both last."""
    training = config.training
    return batch_plan(
        sequences=sequences,
        epochs=training.epochs if steps is None else steps * training.global_batch_size / sequences,
        per_device_batch_size=training.per_device_batch_size,
        accumulation=training.gradient_accumulation_steps,
        dp=config.parallel.dp,
        seed=training.seed,
    )


def tokens_after(plan: IntArray, tokens: IntArray) -> IntArray:
    """int64 [steps]: real tokens seen by all ranks after each step of a ``batch_plan``; ``tokens`` of each
    sequence."""
    after: IntArray = np.cumsum(tokens[plan].sum(axis=(1, 2, 3)))
    return after


def evaluation_steps(tokens_after: IntArray, evaluations: int) -> list[int]:
    """After how many optimizer steps to evaluate: evenly spaced over the training tokens, last at the end.

    A trial with fewer steps than evaluations is evaluated after each step.
    """
    total = tokens_after[-1]
    targets = total * np.arange(1, evaluations + 1) / evaluations
    steps = np.searchsorted(tokens_after, targets - 1e-6, side="left") + 1
    return sorted({int(min(step, len(tokens_after))) for step in steps})
