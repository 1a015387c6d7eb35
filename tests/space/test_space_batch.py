"""global_batch_size = per_device_batch_size x gradient_accumulation_steps x dp, whatever is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from space_helpers import FACTS, load_text

from sweeper.errors import SpaceFileError
from sweeper.space.config.batch import BatchContradiction, complete_batch, optimizer_steps

sizes = st.integers(1, 64)
maybe = st.none() | sizes


@given(
    global_batch=st.none() | st.integers(1, 1024), per_device=maybe, accumulation=maybe, dp=st.integers(1, 8)
)
def test_a_completed_batch_keeps_what_was_given_and_its_product_agrees(
    global_batch, per_device, accumulation, dp
):
    try:
        batch = complete_batch(
            global_batch=global_batch, per_device=per_device, accumulation=accumulation, dp=dp, usual=16
        )
    except BatchContradiction:
        assert global_batch is not None
        assert global_batch != (per_device or 1) * (accumulation or 1) * dp
        return
    assert batch.global_batch == batch.per_device * batch.accumulation * dp
    assert global_batch in (None, batch.global_batch)
    assert per_device in (None, batch.per_device)
    assert accumulation in (None, batch.accumulation)


@given(per_device=sizes, accumulation=sizes, dp=st.integers(1, 8))
def test_each_of_the_three_follows_from_the_other_two(per_device, accumulation, dp):
    product = per_device * accumulation * dp
    every = {"global_batch": product, "per_device": per_device, "accumulation": accumulation}
    for left_out in every:
        batch = complete_batch(**{**every, left_out: None}, dp=dp, usual=16)
        assert (batch.global_batch, batch.per_device, batch.accumulation) == tuple(every.values())


def test_the_rule_of_thumb_is_split_over_the_ranks():
    for dp, expected in ((1, (8, 2)), (2, (8, 1)), (4, (4, 1)), (16, (1, 1))):
        batch = complete_batch(global_batch=None, per_device=None, accumulation=None, dp=dp, usual=16)
        assert (batch.per_device, batch.accumulation) == expected
        assert batch.global_batch == 16


def test_steps_leave_the_unfinished_batch_at_the_very_end_out():
    assert optimizer_steps(rows=10, epochs=1, global_batch=4) == 2
    assert optimizer_steps(rows=10, epochs=2, global_batch=4) == 5
    assert optimizer_steps(rows=10, epochs=0.7, global_batch=7) == 1
    assert optimizer_steps(rows=3, epochs=1, global_batch=4) == 0


def test_an_open_accumulation_changes_the_global_batch_and_not_what_fits_into_memory(tmp_path):
    space = load_text(tmp_path, "training: {gradient_accumulation_steps: [1, 2, 4, 8]}")
    found = [space.close({"gradient_accumulation_steps": steps}).training for steps in (1, 2, 4, 8)]
    assert [one.per_device_batch_size for one in found] == [8, 8, 8, 8]
    assert [one.global_batch_size for one in found] == [8, 16, 32, 64]
    assert space.dimensions[0].default == 2, "the usual global batch of 16"


def test_a_fixed_global_batch_leaves_accumulation_to_follow(tmp_path):
    space = load_text(tmp_path, "training: {global_batch_size: 48, per_device_batch_size: 6}")
    assert space.close({}).training.gradient_accumulation_steps == 8
    split = load_text(tmp_path, "training: {global_batch_size: 36}").close({}).training
    assert (split.per_device_batch_size, split.gradient_accumulation_steps) == (6, 6)


def test_of_very_many_combinations_only_the_ends_are_looked_at_in_advance(tmp_path):
    sizes = "per_device_batch_size: {int: [1, 999]}, gradient_accumulation_steps: {int: [1, 999]}"
    space = load_text(tmp_path, f"training: {{{sizes}}}", facts=replace(FACTS, train_rows=10**9))
    ends = list(
        space.combinations(["training.per_device_batch_size", "training.gradient_accumulation_steps"])
    )
    assert len(ends) == 4
    with pytest.raises(SpaceFileError, match="do not fill one global batch"):
        load_text(tmp_path, f"training: {{{sizes}}}")


@pytest.mark.parametrize("dp", [1, 2, 4])
def test_a_fixed_global_batch_stays_when_dp_is_open(dp, tmp_path):
    space = load_text(
        tmp_path, "training: {global_batch_size: 32, per_device_batch_size: 4}\nparallel: {dp: [1, 2, 4]}"
    )
    training = space.close({"dp": dp}).training
    assert (training.global_batch_size, training.gradient_accumulation_steps) == (32, 8 // dp)
