"""Rows -> sequences -> the order of a run -> arrays for one forward pass. Pure functions of numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.cache import TokenizedSplit
from sweeper.errors import DataError

__all__ = ["NO_LOSS", "Batch", "arrange", "batch_plan", "best_fit", "collate", "sequences", "spread"]

NO_LOSS = -100
"""Label of a token without loss; what torch's cross-entropy ignores."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Input of one forward pass: B sequences, padded on the right to T tokens."""

    input_ids: npt.NDArray[np.int64]
    """Shape (B, T)."""
    labels: npt.NDArray[np.int64]
    """Shape (B, T), not shifted: the token itself where it carries loss, else ``NO_LOSS``."""
    position_ids: npt.NDArray[np.int64]
    """Shape (B, T): counts from 0 in each row of a packed sequence, and again in the padding."""
    attention_mask: npt.NDArray[np.int64] | None
    """Shape (B, T): 1 for tokens, 0 for padding. None where a sequence holds several rows: then
    ``position_ids`` tell the rows apart, and padding is one more row that nothing attends to."""
    tokens: int
    """Tokens that are no padding."""
    completion_tokens: int
    """Tokens that carry loss."""


def sequences(split: TokenizedSplit, *, packing: bool, max_seq_len: int) -> list[IntArray]:
    """Which rows share a sequence: row indices, each row exactly once.

    Unpacked, each row is a sequence. Packed, rows go by decreasing length to the fullest sequence
    that still has space for them (best-fit decreasing), which is deterministic. A sequence holds at most
    ``max_seq_len`` tokens.

    Raises: DataError where a row is longer than that.
    """
    lengths = split.lengths
    if lengths.size and int(lengths.max()) > max_seq_len:
        raise DataError.of(
            where="training.max_seq_len",
            value=max_seq_len,
            rule=f"a row has {int(lengths.max())} tokens",
            remedy="tokenize the rows again with this max_seq_len",
        )
    if not packing:
        return list(np.arange(split.rows, dtype=np.int64)[:, None])
    return best_fit(lengths, max_seq_len)


def best_fit(lengths: IntArray, capacity: int) -> list[IntArray]:
    """Rows by decreasing length, each to the fullest bin of ``capacity`` tokens that has space for it.

    ``lengths`` has shape (rows,), none above the capacity; returns the row indices of each bin.

    Bit n of ``free`` says that some bin has exactly n tokens free: the fullest bin that fits is the lowest
    bit from the row's length upwards, found without a search through the bins."""
    capacity = min(capacity, int(lengths.sum()))  # a bin for everything is large enough
    bins: list[list[int]] = []
    by_free: list[list[int]] = [[] for _ in range(capacity + 1)]
    free = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        fitting = free >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            index = by_free[left].pop()
            if not by_free[left]:
                free ^= 1 << left
        else:
            left, index = capacity, len(bins)
            bins.append([])
        bins[index].append(row)
        by_free[left - length].append(index)
        free |= 1 << (left - length)
    return [np.asarray(sorted(rows), dtype=np.int64) for rows in bins]


def batch_plan(
    *, sequences: int, epochs: float, per_device_batch_size: int, accumulation: int, dp: int, seed: int
) -> IntArray:
    """Which sequences each rank sees in each forward pass of a run.

    Returns int64 of shape (steps, accumulation, dp, per_device_batch_size): indices of sequences.
    Each epoch is its own seeded permutation, the last one perhaps cut short; epochs follow each
    other without a gap, and what is left of the end and fills no global batch is left out. The
    sequences of a step depend on the global batch size, not on how it is split.

    Raises: DataError where the run is shorter than one global batch.
    """
    global_batch = per_device_batch_size * accumulation * dp
    total = round(sequences * epochs)
    steps = total // global_batch
    if steps < 1:
        raise DataError.of(
            where="training",
            value=f"{sequences} sequences x {epochs:g} epochs",
            rule=f"this is less than one global batch of {global_batch} "
            f"({per_device_batch_size} rows per device x {accumulation} accumulation steps x dp {dp})",
            remedy="lower per_device_batch_size or gradient_accumulation_steps, or give more data or epochs",
        )
    # RandomState: NumPy promises that its streams never change, so that a run can be repeated.
    order = [
        np.random.RandomState([seed, epoch]).permutation(sequences) for epoch in range(-(-total // sequences))
    ]
    taken = np.concatenate(order)[: steps * global_batch].astype(np.int64)
    return taken.reshape(steps, accumulation, dp, per_device_batch_size)


def arrange(plan: IntArray, tokens: IntArray, *, alike: bool) -> IntArray:
    """The same plan with the sequences of each step dealt out anew, so that a step trains on the same
    rows and costs less.

    Args:
        plan: int64 of shape (steps, accumulation, dp, per_device_batch_size), as ``batch_plan`` returns.
        tokens: int64 of shape (sequences,): the length of each.
        alike: put sequences of like length together, so that there is little padding between them
            (and ranks that work at the same time get neighbours). Otherwise each forward pass gets
            about as many tokens as any other: no rank waits, and none needs more memory.
    """
    steps, accumulation, dp, per_device = plan.shape
    flat = plan.reshape(steps, -1)
    order = np.argsort(-tokens[flat], axis=1, kind="stable")
    dealt = np.take_along_axis(flat, order, axis=1)
    if alike:
        return dealt.reshape(plan.shape)
    # Long ones first, to the passes in turn, back and forth.
    rounds = dealt.reshape(steps, per_device, accumulation * dp)
    rounds[:, 1::2] = rounds[:, 1::2, ::-1]
    return rounds.transpose(0, 2, 1).reshape(plan.shape)


def collate(split: TokenizedSplit, sequences: Sequence[IntArray], pad_id: int) -> Batch:
    """The arrays of these sequences, each given as the row indices it holds."""
    width = max(int((split.starts[rows + 1] - split.starts[rows]).sum()) for rows in sequences)
    shape = (len(sequences), width)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    labels = np.full(shape, NO_LOSS, dtype=np.int64)
    position_ids = np.empty(shape, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for line, rows in enumerate(sequences):
        end = 0
        for row in rows:
            ids, mask = split.row(int(row))
            start, end = end, end + len(ids)
            input_ids[line, start:end] = ids
            labels[line, start:end] = np.where(mask, ids, NO_LOSS)
            position_ids[line, start:end] = np.arange(len(ids))
        position_ids[line, end:] = np.arange(width - end)
        attention_mask[line, :end] = 1
    packed = any(len(rows) > 1 for rows in sequences)
    return Batch(
        input_ids=input_ids,
        labels=labels,
        position_ids=position_ids,
        attention_mask=None if packed else attention_mask,
        tokens=int(attention_mask.sum()),
        completion_tokens=int((labels != NO_LOSS).sum()),
    )


def spread(rows: int, most: int | None) -> IntArray:
    """Shape (rows,): indices of ``most`` of so many rows, evenly spaced, as rows of one source often stand
    together. None: all."""
    count = rows if most is None else min(rows, most)
    return np.arange(count, dtype=np.int64) * rows // count
