"""The passes of a configuration that need most memory, from the lengths of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from sweeper.autotune.estimate.memory_model import Pass, Workload
from sweeper.data import LengthSample, SequenceSet, TokenizedData, arrange, best_fit, run_plan, spread
from sweeper.space import Config
from sweeper.training import Probed

__all__ = ["PassLengths", "pass_lengths", "probed_workload", "sampled_workload", "workload_of"]

Counts = np.ndarray[Any, Any]
PassLengths = tuple[Counts, Counts]
"""Two int64 [optimizer steps, passes, dp]: tokens of each forward pass, and those with loss."""

_SAMPLED_STEPS = 64
_MOST_STEPS = 2_000
"""Of a longer run the first steps are looked at: their rows are drawn at random."""


def pass_lengths(config: Config, data: TokenizedData) -> PassLengths:
    """As the trainer deals the rows out, without padding between them."""
    rows, training = SequenceSet.of(config, data.train), config.training
    is_long = training.epochs * len(rows.bins) > _MOST_STEPS * training.global_batch_size
    plan = run_plan(config, len(rows.bins), steps=_MOST_STEPS if is_long else None)
    dealt = arrange(plan, rows.tokens, alike=False)
    return rows.tokens[dealt].sum(axis=3), rows.completions[dealt].sum(axis=3)


def workload_of(config: Config, data: TokenizedData, lengths: PassLengths | None = None) -> Workload:
    """``lengths`` are the configuration's ``pass_lengths``, where they are known already.

    Raises DataError where the rows do not fill one global batch.
    """
    lengths = pass_lengths(config, data) if lengths is None else lengths
    chosen = spread(data.eval.rows, config.evaluation.held_out_rows)
    each, with_loss = data.eval.lengths[chosen], data.eval.completion_tokens[chosen]
    groups = best_fit(each, max(config.training.max_seq_len, int(each.max())))
    held_out = [int(each[rows].sum()) for rows in groups]
    completions = max(int(with_loss[rows].sum()) for rows in groups)
    largest = Pass(tokens=max(held_out), completion_tokens=completions)
    return _workload(lengths, largest, held_out, _row_lengths(data, lengths))


def sampled_workload(config: Config, sample: LengthSample) -> Workload:
    """An estimate from a few rows, before anything is tokenized: steps of rows drawn from the sample.

    Packed passes are taken for full.
    """
    training, dp = config.training, config.parallel.dp
    shape = (training.gradient_accumulation_steps, dp, training.per_device_batch_size)
    completion_ratio = float(sample.completion_tokens.sum() / sample.lengths.sum())

    def pass_of(tokens: int) -> Pass:
        return Pass(tokens=tokens, completion_tokens=round(tokens * completion_ratio))

    held_out = min(sample.max_seq_len, max(1, round(sample.eval_tokens)))
    if training.packing:
        full = pass_of(sample.max_seq_len * training.per_device_batch_size)
        later = full if training.gradient_accumulation_steps > 1 else None
        return Workload(first=full, later=later, held_out=pass_of(held_out))
    rows = math.prod(shape)
    drawn = np.random.RandomState(0).randint(len(sample.lengths), size=(_SAMPLED_STEPS, rows))
    dealt = arrange(drawn.reshape(_SAMPLED_STEPS, *shape), sample.lengths, alike=False)
    tokens, completions = sample.lengths[dealt].sum(axis=3), sample.completion_tokens[dealt].sum(axis=3)
    return _workload((tokens, completions), pass_of(held_out), [held_out], len(np.unique(sample.lengths)))


def probed_workload(probed: Probed, data: TokenizedData) -> Workload:
    """That of the steps of a probe."""
    counts = np.array(probed.passes, dtype=np.int64)
    lengths, (tokens, completions) = (counts[..., :1], counts[..., 1:]), probed.held_out
    held_out = Pass(tokens=tokens, completion_tokens=completions)
    return _workload(lengths, held_out, [tokens], _row_lengths(data, lengths))


def _workload(
    lengths: PassLengths, held_out: Pass, held_out_lengths: Iterable[int], row_lengths: float
) -> Workload:
    """``held_out_lengths``: tokens of the passes of an evaluation."""
    tokens, completions = lengths
    trained_lengths = set(tokens[..., 0].flat)
    return Workload(
        first=_largest(tokens[:, :1], completions[:, :1]),
        later=_largest(tokens[:, 1:], completions[:, 1:]) if tokens.shape[1] > 1 else None,
        held_out=held_out,
        pass_lengths=len(trained_lengths) + len(set(held_out_lengths) - trained_lengths) / 3,
        row_lengths=row_lengths,
    )


def _row_lengths(data: TokenizedData, passes: PassLengths) -> float:
    """See Workload.row_lengths; of as many rows, drawn at random, as one rank's passes have tokens for."""
    each, counts = np.unique(data.train.lengths, return_counts=True)
    rows = passes[0][..., 0].sum() / data.train.lengths.mean()
    seen = 1 - (1 - counts / counts.sum()) ** rows
    trained = dict(zip(each.tolist(), seen.tolist(), strict=True))
    only_held_out = sum(1.0 - trained.get(one, 0.0) for one in set(data.eval.lengths.tolist()))
    return float(seen.sum() + only_held_out / 3)


def _largest(tokens: Counts, completions: Counts) -> Pass:
    """The most of either, which need not come from the same pass: they nearly do."""
    return Pass(tokens=int(tokens.max(initial=0)), completion_tokens=int(completions.max(initial=0)))
