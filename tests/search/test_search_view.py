"""What a decision costs, by what is looked at and not by time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from search_support import MIXED
from test_search_stoppers import trial

from sweeper.search import TrialRecord, TrialState, make_stopper
from sweeper.search.auto import view
from sweeper.search.auto.coordinates import Coordinates

CURVE = [(100 * k, 3.0 - 0.1 * k) for k in range(1, 9)]


class Counted(list):
    """Counts how often all of it is gone through."""

    rounds = 0

    def __iter__(self):
        self.rounds += 1
        return super().__iter__()


def records_of(space, count: int) -> Counted:
    """All but the last are complete; the last has three evaluations."""
    values = space.default_values()
    records = [
        replace(trial(number, *CURVE, done=True), values=values, started_s=float(number), is_default=False)
        for number in range(count - 1)
    ]
    newest = trial(count - 1, *((tokens, loss + 1) for tokens, loss in CURVE[:3]))
    return Counted([*records, replace(newest, values=values, started_s=float(count))])


@pytest.fixture
def curves(monkeypatch) -> list[int]:
    """The numbers of the trials whose curves were worked out."""
    made: list[int] = []
    curve = view.curve_of
    monkeypatch.setattr(view, "curve_of", lambda space, one: made.append(one.number) or curve(space, one))
    return made


def test_what_trials_look_like_is_worked_out_once_for_each_record_that_is_not_finished(space_of, curves):
    stopper, records = make_stopper(space_of(MIXED)), records_of(space_of(MIXED), 30)
    first = stopper.decide(29, records, None)
    assert sorted(curves) == list(range(30))
    records[:] = [replace(one) if one.number < 29 else one for one in records]
    assert stopper.decide(29, records, None) == first
    assert not curves[30:]
    records[29] = replace(records[29])  # read from the ledger again
    assert stopper.decide(29, records, None) == first
    assert curves[30:] == [29]


def test_a_decision_goes_through_the_records_as_often_whatever_their_number(space_of):
    rounds = []
    for count in (10, 200):
        records = records_of(space_of(MIXED), count)
        make_stopper(space_of(MIXED)).decide(count - 1, records, None)
        rounds.append(records.rounds)
    assert rounds[0] == rounds[1] <= 6


def test_what_was_remembered_decides_as_what_is_worked_out_anew(space_of):
    space = space_of(MIXED)
    stopper, records = make_stopper(space), list(records_of(space, 12))
    for number in range(12):
        now = [replace(one, state=TrialState.PAUSED) if one.number == number else one for one in records]
        assert stopper.goes_on(now, space_is_exhausted=False) == make_stopper(space).goes_on(
            now, space_is_exhausted=False
        )
        assert stopper.decide(11, records, None) == make_stopper(space).decide(11, records, None)


def test_how_many_trials_had_been_started_at_the_best_loss_is_counted_by_their_clocks(space_of):
    space = space_of(MIXED)
    starts = [0.0, 10.0, 20.0, 30.0]
    best_at = [25.0, 30.0, None, 5.0]

    def record(number: int) -> TrialRecord:
        one = trial(number, (100, 1.0), done=True)
        (evaluation,) = one.evaluations
        measured = (replace(evaluation, time_s=best_at[number]),)
        return replace(one, values=space.default_values(), started_s=starts[number], evaluations=measured)

    seen = view.View(space, Coordinates(space)).standing([record(number) for number in range(4)])
    assert [seen.seen_after(one) for one in seen.rows] == [3, 4, 3, 1]
