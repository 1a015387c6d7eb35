"""Schedules are pure functions of progress."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.train import lr_multiplier, warmup_steps

SCHEDULERS = ["constant", "linear", "cosine", "exponential"]
steps = st.integers(1, 5000)
warmups = st.floats(0, 0.99)
ratios = st.floats(1e-4, 1)


def curve(scheduler: str, total: int, warmup: float, ratio: float) -> list[float]:
    return [
        lr_multiplier(step, total_steps=total, scheduler=scheduler, warmup_ratio=warmup, final_ratio=ratio)
        for step in range(total + 1)
    ]


@given(st.sampled_from(SCHEDULERS), st.integers(1, 300), warmups, ratios)
def test_the_multiplier_stays_between_zero_and_one_and_the_first_step_learns(scheduler, total, warmup, ratio):
    values = curve(scheduler, total, warmup, ratio)
    assert all(0 <= value <= 1 for value in values)
    assert values[0] > 0


@given(st.sampled_from(SCHEDULERS), st.integers(1, 300), warmups, ratios)
def test_it_rises_through_warm_up_peaks_and_never_rises_again(scheduler, total, warmup, ratio):
    values = curve(scheduler, total, warmup, ratio)
    peak = warmup_steps(total, warmup)
    assert values[peak] == pytest.approx(1)
    assert all(a < b for a, b in itertools.pairwise(values[: peak + 1]))
    assert all(a >= b for a, b in itertools.pairwise(values[peak:]))


@given(steps, warmups, ratios)
def test_the_decaying_ones_end_at_the_stated_final_ratio(total, warmup, ratio):
    for scheduler in ("linear", "cosine", "exponential"):
        end = lr_multiplier(
            total, total_steps=total, scheduler=scheduler, warmup_ratio=warmup, final_ratio=ratio
        )
        assert end == pytest.approx(ratio)


@given(st.integers(1, 200), st.integers(2, 7), ratios)
def test_only_progress_matters_not_the_number_of_steps(total, factor, ratio):
    for scheduler in SCHEDULERS:
        short = curve(scheduler, total, 0.0, ratio)
        long = curve(scheduler, total * factor, 0.0, ratio)
        assert short == pytest.approx(long[::factor])


def test_the_middle_of_each_schedule_is_where_the_formula_puts_it():
    middle = {scheduler: curve(scheduler, 100, 0.0, 0.01)[50] for scheduler in SCHEDULERS}
    assert middle["constant"] == 1
    assert middle["linear"] == pytest.approx(0.505)
    assert middle["cosine"] == pytest.approx(0.505)
    assert middle["exponential"] == pytest.approx(math.sqrt(0.01))


def test_warm_up_never_takes_all_steps():
    assert warmup_steps(1, 0.99) == 0
    assert warmup_steps(10, 0.99) == 9
