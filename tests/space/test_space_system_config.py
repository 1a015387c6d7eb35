"""What makes a trial lighter never changes what it computes."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.space import (
    TooLarge,
    fitted,
    next_memory_fallback,
    read_record,
    system_config_of,
    with_system_config,
)


@pytest.fixture
def on_gpus(quick_config):
    def make(**changes):
        config = quick_config(**changes)
        return config.model_copy(
            update={"resources": config.resources.model_copy(update={"gpus_per_rank": 1})}
        )

    return make


def all_levers(config):
    """The configuration and each that follows from it, to the last."""
    steps = [config]
    while (smaller := next_memory_fallback(steps[-1])) is not None:
        steps.append(smaller)
    return [system_config_of(one) for one in steps]


def test_the_levers_are_pulled_in_the_order_of_their_price(on_gpus):
    pulled = all_levers(on_gpus(per_device_batch_size=4, gradient_accumulation_steps=1, dp=2, zero_stage=1))
    assert [one.per_device_batch_size for one in pulled][:4] == [4, 2, 1, 1]
    assert [one.gradient_accumulation_steps for one in pulled][:4] == [1, 2, 4, 4]
    assert [one.gradient_checkpointing for one in pulled].index(True) == 3
    assert [(one.zero_stage, one.offload) for one in pulled[3:]] == [
        (1, "none"),
        (2, "none"),
        (3, "none"),
        (3, "optimizer"),
        (3, "all"),
    ]


def test_one_replica_has_nobody_to_share_with_and_offloads(on_gpus):
    pulled = all_levers(on_gpus(per_device_batch_size=1, zero_stage=0, gradient_checkpointing=True))
    assert [(one.zero_stage, one.offload) for one in pulled] == [(0, "none"), (2, "optimizer"), (3, "all")]


def test_a_pipeline_stays_at_the_stages_that_deepspeed_has_for_it(on_gpus):
    pulled = all_levers(
        on_gpus(per_device_batch_size=1, zero_stage=0, pp=2, dp=2, gradient_checkpointing=True)
    )
    assert [(one.zero_stage, one.offload) for one in pulled] == [(0, "none"), (1, "none"), (1, "optimizer")]


def test_on_a_cpu_there_is_no_device_to_take_from(quick_config):
    last = all_levers(quick_config(per_device_batch_size=2))[-1]
    assert (last.offload, last.gradient_checkpointing, last.per_device_batch_size) == ("none", True, 1)


@given(rows=st.integers(1, 96), accumulation=st.integers(1, 24), dp=st.integers(1, 4))
def test_the_global_batch_is_kept_to_the_row(quick_config, rows, accumulation, dp):
    config = quick_config(per_device_batch_size=rows, gradient_accumulation_steps=accumulation, dp=dp)
    for one in all_levers(config):
        product = one.per_device_batch_size * one.gradient_accumulation_steps * dp
        assert product == config.training.global_batch_size
    assert all_levers(config)[-1].per_device_batch_size == 1


def test_what_did_not_fit_is_not_tried_again_and_other_shapes_are_left_alone(quick_config):
    known = [TooLarge.of(quick_config(per_device_batch_size=8, gradient_accumulation_steps=2))]
    again = fitted(quick_config(per_device_batch_size=16), known)
    assert system_config_of(again).per_device_batch_size == 4
    assert again.training.global_batch_size == 16
    assert fitted(quick_config(per_device_batch_size=4), known) == quick_config(per_device_batch_size=4)
    shorter = quick_config(per_device_batch_size=16, max_seq_len=48)
    assert fitted(shorter, known) == shorter


def test_where_nothing_can_fit_the_lightest_is_left(quick_config):
    lightest = with_system_config(quick_config(per_device_batch_size=1), gradient_checkpointing=True)
    assert fitted(quick_config(), [TooLarge.of(lightest)]).training.per_device_batch_size == 1
    assert next_memory_fallback(lightest) is None


def test_what_was_learned_survives_the_ledger(quick_config):
    one = TooLarge.of(quick_config(zero_stage=2))
    assert read_record(TooLarge, asdict(one)) == one
    assert read_record(TooLarge, asdict(one)) != replace(one, shape="another")
