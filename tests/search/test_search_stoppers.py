from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_support import MIXED

from sweeper.search import Evaluation, TrialRecord, TrialState, make_stopper
from sweeper.search.losses import Curves
from sweeper.search.stoppers import (
    AshaStopper,
    HopelessStopper,
    HyperbandStopper,
    MedianStopper,
    NoStopper,
    PausingStopper,
)

LOSS = Curves(metric="eval/loss", mode="min")
ACCURACY = Curves(metric="eval/token_accuracy", mode="max")
AUTO = HopelessStopper(curves=LOSS)
ASHA = AshaStopper(curves=LOSS, evaluations=8)
HYPERBAND = HyperbandStopper(curves=LOSS, evaluations=27, seed=0)
MEDIAN = MedianStopper(curves=LOSS)

losses = st.one_of(
    st.floats(min_value=0, max_value=20, allow_nan=False), st.sampled_from([math.nan, math.inf])
)


def trial(
    number: int, *points: tuple[int, float], total: int | None = 800, done: bool = False
) -> TrialRecord:
    return TrialRecord(
        number=number,
        state=TrialState.COMPLETE if done else TrialState.RUNNING,
        values={},
        value=points[-1][1] if points else None,
        evaluations=tuple(
            Evaluation(tokens=t, step=t, seconds=float(t), metrics={"eval/loss": v, "eval/token_accuracy": v})
            for t, v in points
        ),
        attributes={} if total is None else {"total_tokens": total},
    )


@st.composite
def ledgers(draw: st.DrawFn) -> list[TrialRecord]:
    """Up to six trials of different lengths, each somewhere on its way."""
    records = []
    for number in range(draw(st.integers(1, 6))):
        first = draw(st.integers(10, 200))
        curve = draw(st.lists(losses, min_size=0, max_size=8))
        points = [(first * (i + 1), loss) for i, loss in enumerate(curve)]
        records.append(trial(number, *points, total=8 * first, done=len(points) == 8))
    return records


def with_steps_scaled(records: list[TrialRecord], factor: int) -> list[TrialRecord]:
    return [
        replace(r, evaluations=tuple(replace(e, step=e.step * factor) for e in r.evaluations))
        for r in records
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", NoStopper),
        ("auto", PausingStopper),
        ("asha", AshaStopper),
        ("hyperband", HyperbandStopper),
        ("median", MedianStopper),
    ],
)
def test_the_file_names_the_stopper(space_of, name, kind):
    stopper = make_stopper(space_of(MIXED, f"search.stopper={name}"))
    assert isinstance(stopper, kind)


@given(ledgers(), st.floats(0, 20))
def test_none_never_stops(records, untrained):
    assert all(NoStopper().decide(r.number, records, untrained) is None for r in records)


@settings(max_examples=200)
@given(ledgers(), st.floats(0, 20))
def test_auto_never_stops_a_trial_at_or_below_the_untrained_value(records, untrained):
    for record in records:
        if AUTO.decide(record.number, records, untrained) is not None:
            assert all(not e.metrics["eval/loss"] <= untrained for e in record.evaluations[-2:])


@settings(max_examples=200)
@given(ledgers(), st.floats(0, 20))
def test_auto_stops_nothing_before_half_of_its_tokens_nor_at_its_end(records, untrained):
    for record in records:
        if AUTO.decide(record.number, records, untrained) is not None:
            tokens, total = record.evaluations[-1].tokens, record.attributes["total_tokens"]
            assert total / 2 <= tokens < total
            assert len(record.evaluations) >= 2


@given(ledgers(), st.floats(0, 20))
def test_auto_does_not_look_at_other_trials(records, untrained):
    for record in records:
        alone = AUTO.decide(record.number, [record], untrained)
        assert AUTO.decide(record.number, records, untrained) == alone


@settings(max_examples=150)
@given(ledgers(), st.one_of(st.none(), st.floats(0, 20)), st.integers(2, 1000))
def test_step_numbers_change_no_decision(records, untrained, factor):
    scaled = with_steps_scaled(records, factor)
    for stopper in (AUTO, ASHA, HYPERBAND, MEDIAN):
        for record in records:
            assert stopper.decide(record.number, records, untrained) == stopper.decide(
                record.number, scaled, untrained
            )


@settings(max_examples=150)
@given(ledgers(), st.one_of(st.none(), st.floats(0, 20)))
def test_nothing_is_stopped_at_its_end(records, untrained):
    for stopper in (AUTO, ASHA, HYPERBAND, MEDIAN):
        for record in records:
            if record.state is TrialState.COMPLETE:
                assert stopper.decide(record.number, records, untrained) is None


@settings(max_examples=150)
@given(ledgers(), st.one_of(st.none(), st.floats(0, 20)))
def test_the_best_of_all_curves_everywhere_is_never_stopped(records, untrained):
    best = trial(99, *((t, -1.0) for t in range(10, 700, 10)))
    for stopper in (AUTO, ASHA, HYPERBAND, MEDIAN):
        assert stopper.decide(99, [*records, best], untrained) is None


def test_auto_gives_the_figures_of_its_reason():
    hopeless = trial(0, (100, 5.0), (200, 5.0), (300, 4.0), (400, 3.5))
    reason = AUTO.decide(0, [hopeless], 3.0)
    assert reason == (
        "eval/loss is 3.5 after 400 of 800 tokens, and was worse than the untrained model's 3 "
        "at the last 4 evaluations"
    )


def test_auto_needs_the_untrained_value_and_the_total():
    points = [(t, 5.0) for t in (100, 200, 300, 400, 500)]
    assert AUTO.decide(0, [trial(0, *points)], None) is None
    assert AUTO.decide(0, [trial(0, *points)], math.nan) is None
    assert AUTO.decide(0, [trial(0, *points, total=None)], 3.0) is None


def test_auto_counts_what_is_not_a_number_as_worse():
    assert AUTO.decide(0, [trial(0, (300, 5.0), (400, math.nan))], 3.0) is not None


def test_auto_waits_for_two_evaluations_in_a_row():
    assert AUTO.decide(0, [trial(0, (300, 2.0), (400, 5.0))], 3.0) is None


def test_auto_respects_a_mode_of_max():
    stopper = HopelessStopper(curves=ACCURACY)
    assert stopper.decide(0, [trial(0, (400, 0.2), (500, 0.2))], 0.3) is not None
    assert stopper.decide(0, [trial(0, (400, 0.4), (500, 0.4))], 0.3) is None


@pytest.mark.parametrize(("tokens", "expected"), [(100, 4.0), (150, 3.0), (175, 2.5), (200, 2.0), (50, 5.0)])
def test_a_curve_is_linear_between_evaluations_and_begins_untrained(tokens, expected):
    record = trial(0, (100, 4.0), (200, 2.0))
    assert LOSS.loss_at(record, tokens, 6.0) == pytest.approx(expected)


def test_a_curve_says_nothing_beyond_its_ends():
    record = trial(0, (100, 4.0), (200, 2.0))
    assert LOSS.loss_at(record, 201, 6.0) is None
    assert LOSS.loss_at(record, 99, None) is None
    assert LOSS.loss_at(trial(0), 10, 6.0) is None


def test_a_curve_is_infinite_beside_what_is_not_a_number():
    record = trial(0, (100, 4.0), (200, math.nan), (300, math.inf))
    assert [LOSS.loss_at(record, t, None) for t in (100, 150, 250, 300)] == [4.0, *[math.inf] * 3]


def test_asha_keeps_the_best_third_of_those_that_passed_the_rung():
    passed = [trial(n, (100, 1.0 + n)) for n in range(6)]
    stopped = [ASHA.decide(n, passed, None) is not None for n in range(6)]
    assert stopped == [False, False, True, True, True, True]


def test_asha_lets_everyone_pass_while_there_are_too_few():
    assert ASHA.decide(1, [trial(0, (100, 1.0)), trial(1, (100, 9.0))], None) is None


def test_asha_judges_only_where_a_rung_is_passed():
    others = [trial(n, (100, 1.0), (200, 1.0), (300, 1.0)) for n in range(1, 4)]
    own = [(100, 0.5), (200, 9.0), (300, 9.0), (400, 9.0)]
    stopped = [ASHA.decide(0, [trial(0, *own[: k + 1]), *others], None) is not None for k in range(4)]
    assert stopped == [False, False, True, False]  # rungs stand at 100 and 300 tokens


def test_asha_judges_at_the_tokens_of_the_rung_and_not_at_its_own_evaluations():
    short = [trial(n, (100, 3.0), (200, 2.0)) for n in range(1, 4)]
    # Evaluated at 240 tokens only; its rung of 100 lies on the line from the untrained 5.0.
    slow = trial(0, (240, 4.9), total=1920)
    fast = trial(0, (240, 0.1), total=1920)
    reason = ASHA.decide(0, [slow, *short], 5.0)
    assert "4.958 at the rung of 100 tokens" in reason
    assert "3 of 3 other trials are better and 1 of 4 go on" in reason
    assert ASHA.decide(0, [fast, *short], 5.0) is None


@pytest.mark.parametrize(
    ("evaluations", "sizes"), [(1, (1,)), (8, (3, 2)), (27, (27, 12, 6, 4)), (26, (9, 5, 3))]
)
def test_hyperband_has_the_brackets_of_its_paper(evaluations, sizes):
    assert HyperbandStopper(curves=LOSS, evaluations=evaluations, seed=0).sizes == sizes
    assert HyperbandStopper(curves=LOSS, evaluations=81, seed=0).sizes == (81, 34, 15, 8, 5)


def test_the_brackets_are_those_of_optuna():
    from optuna.pruners import HyperbandPruner

    pruner = HyperbandPruner(min_resource=1, max_resource=27, reduction_factor=3)
    pruner._try_initialization(None)
    assert tuple(pruner._trial_allocation_budgets) == HYPERBAND.sizes


def test_a_trials_bracket_is_drawn_by_its_number_and_the_seed_and_as_often_as_it_is_to_be():
    drawn = [HYPERBAND.bracket(number) for number in range(490)]
    assert [HYPERBAND.bracket(number) for number in range(490)] == drawn
    assert [replace(HYPERBAND, seed=1).bracket(number) for number in range(490)] != drawn
    assert [drawn.count(bracket) for bracket in range(4)] == pytest.approx([270, 120, 60, 40], abs=30)


def test_each_bracket_begins_to_halve_at_a_rung_of_its_own_and_compares_its_own_trials_only():
    """Evaluations at 100, 200, ... of 2,700 tokens; rungs at 100, 300 and 900, and 2,700 is the end."""
    members = {b: [n for n in range(200) if HYPERBAND.bracket(n) == b][:4] for b in range(4)}
    others = [
        trial(n, *((t, 1.0) for t in range(100, 2800, 100)), total=2700)
        for b in members.values()
        for n in b[1:]
    ]
    first_stop = {}
    for bracket, (number, *_) in members.items():
        for seen in range(1, 28):
            own = trial(number, *((100 * k, 9.0) for k in range(1, seen + 1)), total=2700)
            reason = HYPERBAND.decide(number, [own, *others], None)
            if reason is not None:
                first_stop[bracket] = 100 * seen
                assert (
                    f"3 of 3 other trials are better and 1 of 4 go on (bracket {bracket + 1} of 4)" in reason
                )
                break
    assert first_stop == {0: 100, 1: 300, 2: 900}  # the last bracket stops nothing


def test_median_waits_for_three_complete_trials():
    full = [(t, 1.0) for t in range(100, 900, 100)]
    bad = trial(9, (100, 5.0))
    two = [trial(n, *full, done=True) for n in range(2)]
    assert MEDIAN.decide(9, [*two, trial(3, (100, 1.0)), bad], None) is None
    three = [trial(n, *full, done=True) for n in range(3)]
    assert MEDIAN.decide(9, [*three, bad], None) == (
        "the best eval/loss so far is 5 after 100 tokens, worse than 1, the median of 3 others"
    )


def test_median_looks_at_the_best_so_far():
    three = [trial(n, *((t, 2.0) for t in range(100, 900, 100)), done=True) for n in range(3)]
    assert MEDIAN.decide(9, [*three, trial(9, (100, 1.5), (200, 6.0))], None) is None


def test_failed_trials_are_no_rivals():
    failed = [replace(trial(n, (100, 0.1)), state=TrialState.FAIL) for n in range(1, 7)]
    assert ASHA.decide(0, [trial(0, (100, 5.0)), *failed], None) is None


def test_a_trial_whose_value_is_no_number_loses_the_halving():
    passed = [trial(n, (100, math.nan)) for n in range(4)]
    assert "not a number" in ASHA.decide(0, passed, None)


def test_an_unknown_trial_is_an_error():
    with pytest.raises(KeyError):
        AUTO.decide(7, [trial(0)], 1.0)
