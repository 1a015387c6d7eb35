"""An LR range test's curve, read: known curves give their bracket, and noise gives none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.autotune import STEPS, compared, is_lost, lr_picture, lr_span, read_range, settled, tried_range
from sweeper.space import Choice, LogUniform

LOW, HIGH = 1e-7, 1e-1
LRS = np.geomspace(LOW, HIGH, STEPS)
steady = settings(max_examples=200, derandomize=True)


def falling(untrained=3.0, floor=1.0, middle=1e-4, decades=0.5):
    """A loss that falls around ``middle``, over about four times so many decades, and stays down."""
    fallen = 1 / (1 + np.exp(-np.log10(LRS / middle) * 2 / decades))
    return untrained - (untrained - floor) * fallen


def with_cliff(losses, at, height):
    """The same with a steep rise, half of which is reached at ``at``."""
    return losses + height / (1 + np.exp(-np.log10(LRS / at) * 12))


@steady
@given(
    untrained=st.floats(0.3, 12),
    share=st.floats(0.05, 0.9),
    middle=st.floats(-5.5, -3.5),
    decades=st.floats(0.1, 0.4),
    noise=st.floats(0, 0.03),
    seed=st.integers(0, 10_000),
)
def test_the_bracket_of_a_curve_that_falls_and_blows_up_is_where_it_was_made(
    untrained, share, middle, decades, noise, seed
):
    fall, cliff = share * untrained, 10 ** (middle + 4 * decades + 0.6)
    made = with_cliff(falling(untrained, untrained - fall, 10**middle, decades), cliff, 3 * untrained)
    losses = made + np.random.RandomState(seed).normal(0, noise * fall, STEPS)
    found = read_range(LRS, losses, untrained=untrained)
    bracket = found.bracket
    assert LOW <= bracket.low <= bracket.steepest <= bracket.high <= HIGH and bracket.low < bracket.high
    # A tenth of a logistic fall lies ln(9) x decades / 2 before its middle.
    begun = middle - math.log(9) * decades / 2
    assert begun - 0.35 <= math.log10(bracket.low) <= middle + 0.1
    assert middle - 0.1 <= math.log10(bracket.high) <= math.log10(cliff)
    assert bracket.high < found.diverged_at <= 10 ** (math.log10(cliff) + 0.5)
    assert "from lr" in found.finding and "it is lost" in found.finding


@steady
@given(untrained=st.floats(0.3, 12), noise=st.floats(1e-6, 0.03), seed=st.integers(0, 10_000))
def test_noise_alone_is_no_fall(untrained, noise, seed):
    losses = untrained + np.random.RandomState(seed).normal(0, noise * untrained, STEPS)
    found = read_range(LRS, losses, untrained=untrained)
    assert found.bracket is None and "never fell clearly" in found.finding
    assert found.noise == pytest.approx(noise * untrained, rel=0.5)


@steady
@given(
    st.lists(st.floats(0, 100) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=STEPS),
    st.floats(0.01, 20),
)
def test_whatever_the_losses_are_they_are_read_and_drawn_within_the_rates_that_were_tried(losses, untrained):
    lrs = LRS[: len(losses)]
    found = read_range(lrs, losses, untrained=untrained)
    if found.bracket is not None:
        assert lrs[0] <= found.bracket.low <= found.bracket.steepest <= found.bracket.high <= lrs[-1]
        assert found.bracket.low < found.bracket.high
    assert found.diverged_at is None or found.diverged_at in lrs
    assert len(found.smoothed) == len(losses) and all(map(math.isfinite, found.smoothed))
    settled(LogUniform(1e-5, 1e-3), found, within=True)


@steady
@given(st.floats(1e-3, 1e2))
def test_the_bracket_moves_with_the_rates(factor):
    losses = with_cliff(falling(), 1e-2, 5)
    here, there = (read_range(lrs, losses, untrained=3.0).bracket for lrs in (LRS, LRS * factor))
    assert [there.low, there.steepest, there.high] == pytest.approx(
        [factor * here.low, factor * here.steepest, factor * here.high]
    )


def test_the_fastest_fall_is_found():
    found = read_range(LRS, falling(middle=1e-4), untrained=3.0)
    assert found.bracket.steepest == pytest.approx(1e-4, rel=0.3)


def test_a_curve_that_never_falls_has_no_bracket():
    for losses in (
        np.full(STEPS, 3.0),
        3.0 + np.linspace(0, 0.2, STEPS),
        with_cliff(np.full(STEPS, 3.0), 1e-3, 9),
    ):
        assert read_range(LRS, losses, untrained=3.0).bracket is None


def test_a_curve_that_is_lost_at_once_has_no_bracket_and_says_where():
    for losses in ([math.nan], [3.0, math.nan], [3.0, 2.9, math.inf], [50.0] * 5):
        found = read_range(LRS[: len(losses)], losses, untrained=3.0)
        assert found.bracket is None
        assert found.diverged_at == LRS[0 if len(losses) in (1, 5) else len(losses) - 1]
        assert "never fell clearly" in found.finding and f"{found.diverged_at:.1e}" in found.finding


def test_a_curve_that_still_falls_at_the_end_says_so():
    found = read_range(LRS, falling(middle=1e-1), untrained=3.0)
    assert found.bracket.high >= LRS[-3] and found.diverged_at is None
    assert "still falls at the highest lr tried" in found.finding


def test_a_curve_that_falls_from_the_first_step_says_so():
    found = read_range(LRS, falling(middle=1e-8), untrained=3.0)
    assert found.bracket.low == LRS[0]
    assert "already falls at the lowest lr tried" in found.finding


def test_no_number_at_the_end_is_where_it_is_lost_and_moves_nothing_else():
    losses = falling(middle=1e-5)[:80]
    whole = read_range(LRS[:80], losses, untrained=3.0)
    lost = read_range(LRS[:81], [*losses, math.nan], untrained=3.0)
    assert whole.diverged_at is None and lost.diverged_at == LRS[80]
    assert lost.bracket.low == whole.bracket.low
    assert lost.bracket.steepest == whole.bracket.steepest
    assert LRS[70] < lost.bracket.high < LRS[80]


def test_a_jump_of_a_step_or_two_is_neither_a_fall_nor_a_loss():
    losses = with_cliff(falling(), 1e-2, 5)
    jumping = losses.copy()
    jumping[[20, 45, 46]] = 9.0, 0.1, 8.0
    plain, jumped = (read_range(LRS, curve, untrained=3.0) for curve in (losses, jumping))
    for name in ("low", "steepest", "high"):
        steps = [int(np.searchsorted(LRS, getattr(one.bracket, name))) for one in (plain, jumped)]
        assert abs(steps[0] - steps[1]) <= 3
    flat = np.full(STEPS, 3.0)
    flat[50:52] = 0.5
    assert read_range(LRS, flat, untrained=3.0).bracket is None


def test_a_run_is_lost_once_half_of_the_fall_is_gone_for_five_steps():
    down = [3.0, 2.0, 1.0]
    assert not is_lost([*down, *[2.1] * 4], 3.0)
    assert is_lost([*down, *[2.1] * 5], 3.0)
    assert not is_lost([*down, *[1.9] * 50], 3.0)
    assert not is_lost([3.2] * 50, 3.0)  # nothing was won, and little is lost
    assert is_lost([math.nan] * 5, 3.0)


def test_what_is_tried_lies_around_the_practice_and_below_what_a_field_takes():
    assert tried_range(2e-5) == pytest.approx((2e-8, 2e-2))
    assert tried_range(0.1) == pytest.approx((1e-4, 10.0))


FOUND = LogUniform(1e-5, 1e-3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((2e-5, 5e-4), "the file's lr range, 2e-05 to 0.0005, lies inside it"),
        ((1e-6, 5e-4), "is too low at its low end (below 1e-05"),
        ((2e-5, 1e-2), "is too high at its high end (above 0.001"),
        ((1e-6, 1e-2), "too low at its low end (below 1e-05 little is learned) and too high"),
        ((1e-8, 1e-6), "lies wholly below it"),
        ((1e-2, 1e-1), "lies wholly above it"),
        ((1e-4, 1e-4), "the file's lr, 0.0001, lies inside it"),
        ((1e-2, 1e-2), "the file's lr, 0.01, lies above it"),
    ],
)
def test_the_files_range_is_compared_in_words(asked, said):
    assert said in compared(asked, FOUND)


def test_the_span_of_an_lr_is_that_of_all_its_values():
    assert lr_span(LogUniform(1e-5, 1e-3)) == (1e-5, 1e-3)
    assert lr_span(Choice((1e-3, 1e-5, 1e-4))) == (1e-5, 1e-3)
    assert lr_span(1e-4) == (1e-4, 1e-4)


def test_a_sweep_searches_what_was_found_or_what_its_own_range_has_of_it():
    found = read_range(LRS, with_cliff(falling(), 1e-2, 5), untrained=3.0)
    alone, _ = settled(LogUniform(1e-9, 1e-8), found, within=False)
    assert alone.low == pytest.approx(found.bracket.low, rel=0.05)
    assert alone.high == pytest.approx(found.bracket.high, rel=0.05)
    inner, said = settled(LogUniform(1e-4, 1.0), found, within=True)
    assert inner == LogUniform(1e-4, alone.high)
    assert "warning" not in said


def test_a_test_that_leaves_nothing_to_search_leaves_the_range_and_warns():
    asked = LogUniform(1e-9, 1e-8)
    found = read_range(LRS, with_cliff(falling(), 1e-2, 5), untrained=3.0)
    nothing = read_range(LRS, np.full(STEPS, 3.0), untrained=3.0)
    barely = LogUniform(1e-9, found.bracket.low * 1.2)
    for range_, test, within in ((asked, found, True), (barely, found, True), (asked, nothing, False)):
        kept, said = settled(range_, test, within=within)
        assert kept == range_ and said.startswith("warning: lr is searched over 1e-09")


@pytest.mark.parametrize(
    "losses",
    [with_cliff(falling(), 1e-2, 5), np.full(STEPS, 3.0), [math.nan]],
    ids=["a bracket", "no fall", "lost at once"],
)
def test_every_outcome_has_its_picture(losses):
    found = read_range(LRS[: len(losses)], losses, untrained=3.0)
    picture = lr_picture(found, name="a_$b$", asked=(1e-5, 1e-3), whose="lr in the file")
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
