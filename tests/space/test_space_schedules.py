"""Schedules are pure functions of progress."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.space import Scheduler
from sweeper.space.schedules import lr_multiplier, warmup_steps

SCHEDULERS = get_args(Scheduler)
steps = st.integers(1, 5000)
warmups = st.floats(0, 0.99)
ratios = st.floats(1e-4, 1)
decays = st.floats(0.01, 1)


def curve(scheduler: str, total: int, warmup: float, ratio: float, decay: float = 0.2) -> list[float]:
    return [
        lr_multiplier(
            step,
            total_steps=total,
            scheduler=scheduler,
            warmup_ratio=warmup,
            decay_ratio=decay,
            final_ratio=ratio,
        )
        for step in range(total + 1)
    ]


@given(st.sampled_from(SCHEDULERS), st.integers(1, 300), warmups, ratios, decays)
def test_the_multiplier_stays_between_zero_and_one_and_the_first_step_learns(
    scheduler, total, warmup, ratio, decay
):
    values = curve(scheduler, total, warmup, ratio, decay)
    assert all(0 <= value <= 1 for value in values)
    assert values[0] > 0


@given(st.sampled_from(SCHEDULERS), st.integers(1, 300), warmups, ratios, decays)
def test_it_rises_through_warm_up_peaks_and_never_rises_again(scheduler, total, warmup, ratio, decay):
    values = curve(scheduler, total, warmup, ratio, decay)
    peak = warmup_steps(total, warmup)
    assert values[peak] == pytest.approx(1)
    assert all(a < b for a, b in itertools.pairwise(values[: peak + 1]))
    assert all(a >= b for a, b in itertools.pairwise(values[peak:]))


@given(steps, warmups, ratios, decays)
def test_the_decaying_ones_end_at_the_stated_final_ratio(total, warmup, ratio, decay):
    for scheduler in ("linear", "cosine", "exponential", "wsd"):
        end = lr_multiplier(
            total,
            total_steps=total,
            scheduler=scheduler,
            warmup_ratio=warmup,
            decay_ratio=decay,
            final_ratio=ratio,
        )
        assert end == pytest.approx(ratio)


@given(st.integers(1, 200), st.integers(2, 7), ratios, decays)
def test_only_progress_matters_not_the_number_of_steps(total, factor, ratio, decay):
    for scheduler in SCHEDULERS:
        short = curve(scheduler, total, 0.0, ratio, decay)
        long = curve(scheduler, total * factor, 0.0, ratio, decay)
        assert short == pytest.approx(long[::factor], abs=1e-6)


@given(st.integers(1, 500), warmups, ratios, decays)
def test_wsd_is_stable_between_warm_up_and_decay(total, warmup, ratio, decay):
    values = curve("wsd", total, warmup, ratio, decay)
    start = total * (1 - decay)
    for step in range(warmup_steps(total, warmup), total + 1):
        if step <= start:
            assert values[step] == 1


@given(st.floats(0.05, 0.5), st.floats(0.05, 0.5), ratios)
def test_wsd_has_no_jump_where_one_part_ends_and_the_next_begins(warmup, decay, ratio):
    """The largest change from one step to the next vanishes with the number of steps."""
    jumps = []
    for total in (200, 20_000):
        values = curve("wsd", total, warmup, ratio, decay)
        jumps.append(max(abs(a - b) for a, b in itertools.pairwise(values)))
    assert jumps[1] < jumps[0] / 5


def test_wsd_decays_as_one_minus_the_root_of_what_is_done():
    values = curve("wsd", 100, 0.0, 0.0, decay=0.2)
    assert values[80] == 1
    assert values[85] == pytest.approx(0.5)
    assert values[99] == pytest.approx(1 - math.sqrt(0.95))
    assert curve("wsd", 100, 0.0, 0.1, decay=0.2)[85] == pytest.approx(0.1 + 0.9 * 0.5)


def test_the_middle_of_each_schedule_is_where_the_formula_puts_it():
    middle = {scheduler: curve(scheduler, 100, 0.0, 0.01)[50] for scheduler in SCHEDULERS}
    assert middle["constant"] == 1
    assert middle["linear"] == pytest.approx(0.505)
    assert middle["cosine"] == pytest.approx(0.505)
    assert middle["exponential"] == pytest.approx(math.sqrt(0.01))
    assert middle["wsd"] == 1


def test_warm_up_never_takes_all_steps():
    assert warmup_steps(1, 0.99) == 0
    assert warmup_steps(10, 0.99) == 9


def test_a_given_number_of_warm_up_steps_does_not_depend_on_how_long_the_run_is():
    assert [warmup_steps(total, 0.1, given=3) for total in (2, 10, 1000)] == [1, 3, 3]
    assert warmup_steps(10, 0.1, given=0) == 0
    short, long = (
        [
            lr_multiplier(
                step,
                total_steps=total,
                scheduler="wsd",
                warmup_ratio=0.5,
                decay_ratio=0.5,
                final_ratio=0.0,
                warmup=3,
            )
            for step in range(total)
        ]
        for total in (20, 40)
    )
    assert short[:4] == [0.25, 0.5, 0.75, 1.0]
    assert short[:11] == long[:11]
