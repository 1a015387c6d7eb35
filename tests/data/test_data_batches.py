"""Packing, the order of a run, and the arrays of one forward pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.data import TokenizedSplit, batch_plan, collate, sequences
from sweeper.data.batches import NO_LOSS
from sweeper.data.render.tokens import TokenRow
from sweeper.errors import DataError

LENGTHS = st.lists(st.integers(2, 64), min_size=1, max_size=80)
PAD = 999


def split_of(lengths: list[int]) -> TokenizedSplit:
    """Rows whose tokens are all different, the second half of each carrying loss."""
    rows, first = [], 0
    for length in lengths:
        mask = np.arange(length) >= max(1, length // 2)
        rows.append(
            TokenRow(np.arange(first, first + length, dtype=np.int32), mask, False, length, length - 1)
        )
        first += length
    return TokenizedSplit.of(rows)


@given(lengths=LENGTHS, extra=st.integers(0, 40))
def test_packing_puts_every_row_into_one_sequence_and_none_is_too_long(lengths, extra):
    limit = max(lengths) + extra
    packed = sequences(split_of(lengths), packing=True, max_seq_len=limit)
    assert sorted(int(row) for rows in packed for row in rows) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in rows) <= limit for rows in packed)
    assert all((np.diff(rows) > 0).all() for rows in packed)


@given(lengths=LENGTHS, extra=st.integers(0, 40))
def test_packing_leaves_at_most_one_sequence_half_empty(lengths, extra):
    limit = max(lengths) + extra
    fill = [
        sum(lengths[row] for row in rows)
        for rows in sequences(split_of(lengths), packing=True, max_seq_len=limit)
    ]
    assert sum(2 * tokens <= limit for tokens in fill) <= 1


@given(lengths=LENGTHS)
def test_packing_is_deterministic(lengths):
    first, second = (sequences(split_of(lengths), packing=True, max_seq_len=64) for _ in range(2))
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in second]


def test_packing_prefers_the_fullest_sequence_that_fits():
    packed = sequences(split_of([10, 6, 4, 3, 2]), packing=True, max_seq_len=10)
    assert [rows.tolist() for rows in packed] == [[0], [1, 2], [3, 4]]


def test_a_sequence_without_a_limit_holds_every_row():
    packed = sequences(split_of([10, 6, 4]), packing=True, max_seq_len=10**17)
    assert [rows.tolist() for rows in packed] == [[0, 1, 2]]


def test_packing_is_fast_for_many_rows():
    lengths = np.random.RandomState(0).randint(2, 2048, size=20_000).tolist()
    packed = sequences(split_of(lengths), packing=True, max_seq_len=4096)
    assert sum(lengths) / (len(packed) * 4096) > 0.99


def test_unpacked_rows_are_sequences_of_their_own():
    alone = sequences(split_of([5, 3]), packing=False, max_seq_len=8)
    assert [rows.tolist() for rows in alone] == [[0], [1]]


@pytest.mark.parametrize("packing", [True, False])
def test_a_row_longer_than_a_sequence_is_refused(packing):
    with pytest.raises(DataError, match="max_seq_len"):
        sequences(split_of([9]), packing=packing, max_seq_len=8)


SPLITS = st.sampled_from([(8, 1, 1), (4, 2, 1), (2, 2, 2), (1, 8, 1), (1, 2, 4), (4, 1, 2)])


@given(
    rows=st.integers(8, 60),
    epochs=st.sampled_from([0.5, 1.0, 1.25, 2, 3.7]),
    split=SPLITS,
    seed=st.integers(0, 9),
)
def test_the_rows_of_a_step_do_not_depend_on_how_the_global_batch_is_split(rows, epochs, split, seed):
    if round(rows * epochs) < 8:
        return
    per_device, accumulation, dp = split
    plan = batch_plan(
        sequences=rows,
        epochs=epochs,
        per_device_batch_size=per_device,
        accumulation=accumulation,
        dp=dp,
        seed=seed,
    )
    whole = batch_plan(
        sequences=rows, epochs=epochs, per_device_batch_size=8, accumulation=1, dp=1, seed=seed
    )
    assert plan.shape == (round(rows * epochs) // 8, accumulation, dp, per_device)
    assert plan.dtype == np.int64
    for step, reference in zip(plan, whole, strict=True):
        assert sorted(step.ravel()) == sorted(reference.ravel())


@given(rows=st.integers(1, 40), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_epoch_holds_every_row_once_in_its_own_order(rows, epochs, seed):
    plan = batch_plan(sequences=rows, epochs=epochs, per_device_batch_size=1, accumulation=1, dp=1, seed=seed)
    orders = plan.reshape(epochs, rows)
    for order in orders:
        assert sorted(order) == list(range(rows))
    if rows > 12 and epochs > 1:
        assert (orders[0] != orders[1]).any()


def plan_of(**changes):
    arguments = {"sequences": 50, "epochs": 1.0, "per_device_batch_size": 4, "accumulation": 2, "dp": 1}
    arguments["seed"] = 3
    return batch_plan(**(arguments | changes))


def test_the_order_follows_from_the_seed():
    assert (plan_of() == plan_of()).all()
    assert (plan_of() != plan_of(seed=4)).any()


def test_a_longer_run_starts_with_the_same_steps():
    assert (plan_of(epochs=2.0)[:6] == plan_of()[:6]).all()


def test_only_the_end_that_fills_no_batch_is_left_out():
    assert plan_of(epochs=1.0).size == 48
    assert plan_of(epochs=2.0).size == 96
    assert plan_of(epochs=0.5).size == 24
    assert len(set(plan_of(epochs=0.5).ravel())) == 24


def test_a_run_shorter_than_one_global_batch_is_refused_with_the_numbers():
    with pytest.raises(DataError, match=r"7 sequences x 1 epochs.*global batch of 8"):
        plan_of(sequences=7)


def test_a_batch_of_single_rows_is_padded_and_masked():
    split = split_of([4, 2])
    batch = collate(split, [np.array([0]), np.array([1])], PAD)
    assert batch.input_ids.tolist() == [[0, 1, 2, 3], [4, 5, PAD, PAD]]
    assert batch.labels.tolist() == [[NO_LOSS, NO_LOSS, 2, 3], [NO_LOSS, 5, NO_LOSS, NO_LOSS]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]
    assert (batch.tokens, batch.completion_tokens) == (6, 3)
    assert all(array.dtype == np.int64 for array in (batch.input_ids, batch.labels, batch.position_ids))


def test_rows_that_share_a_sequence_restart_their_positions_and_have_no_mask():
    batch = collate(split_of([3, 2, 4]), [np.array([0, 1]), np.array([2])], PAD)
    assert batch.input_ids.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, PAD]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert batch.labels.tolist() == [[NO_LOSS, 1, 2, NO_LOSS, 4], [NO_LOSS, NO_LOSS, 7, 8, NO_LOSS]]
    assert batch.attention_mask is None
    assert (batch.tokens, batch.completion_tokens) == (9, 5)


@given(lengths=LENGTHS, packing=st.booleans())
def test_no_token_is_lost_or_doubled_between_rows_and_batches(lengths, packing):
    split = split_of(lengths)
    every = sequences(split, packing=packing, max_seq_len=64)
    batch = collate(split, every, PAD)
    real = batch.input_ids[batch.input_ids != PAD] if sum(lengths) <= PAD else None
    assert batch.tokens == sum(lengths)
    assert batch.completion_tokens == split.completion_tokens.sum()
    assert batch.completion_tokens == (batch.labels[:, 1:] != NO_LOSS).sum()
    if real is not None:
        assert sorted(real) == list(range(sum(lengths)))
