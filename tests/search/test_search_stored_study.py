"""What a writing ledger knows is what the database holds, and what is asked of many trials costs no more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from search_support import MIXED, evaluation
from sqlalchemy import event

from sweeper.search import Ledger, TrialRecord, TrialState, make_stopper
from sweeper.search.auto import AutoSampler, propose
from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.grid import configuration_key


def happenings(ledger: Ledger) -> Iterator[None]:
    """All that can happen to a sweep's trials, one after another."""
    ledger.note_sweep(spent_s=1.5, tags={"a": [1, 2]})
    ledger.note_untrained(math.inf)
    whole = ledger.ask().number
    yield
    ledger.note(whole, config={"training": {"lr": 1e-4, "x": [1, None]}}, total_tokens=300, steps_of="ab")
    ledger.report(whole, evaluation(0, 5.0))
    yield
    with ledger.together():
        ledger.report(whole, evaluation(100, 3.0))
        ledger.note(whole, startup_s=0.25, warnings=("once", "twice"))
        ledger.note_sweep(spent_s=2.5)
    yield
    ledger.report(whole, evaluation(200, math.nan))
    ledger.report(whole, evaluation(200, 2.0))
    ledger.finish(whole, TrialState.COMPLETE)
    yield
    ledger.note(whole, kept=True, config={})
    paused, diverged = ledger.ask().number, ledger.ask().number
    ledger.report(paused, evaluation(100, 4.0))
    ledger.pause(paused, 0.1, "little chance")
    yield
    ledger.report(diverged, evaluation(100, math.nan))
    ledger.note(diverged, diverged=True)
    ledger.finish(diverged, TrialState.FAIL, "diverged")
    yield
    assert ledger.go_on(paused, to_end=True).to_end
    yield
    ledger.report(paused, evaluation(200, 3.5))
    ledger.finish(paused, TrialState.PRUNED, "stopped")
    yield
    same = ledger.ask().number
    ledger.note(same, same_as=whole, saved_tokens=200, fork=None)
    ledger.report(same, evaluation(100, 3.0))
    yield
    ledger._enqueue({**ledger.trial(0).values, "epochs": 2})
    yield
    assert ledger.ask().number == same + 1
    again = ledger.replicate(whole, 7)
    assert (again.replicate_of, again.seed) == (whole, 7)
    yield


def told(ledger: Ledger) -> str:
    """All that it says of its trials; not a number equals itself."""
    return repr([(replace(one, attributes={}), sorted(one.attributes.items())) for one in ledger.trials()])


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_a_ledger_knows_by_what_it_wrote_is_what_the_database_holds(space_of, url, database, request):
    address = url if database == "sqlite" else request.getfixturevalue("postgres").address("in_step")
    ledger, steps = Ledger.create(address, space_of()), 0
    reader = Ledger.open(address, space_of())
    for _ in happenings(ledger):
        assert told(ledger) == told(reader)
        assert ledger.sweep_attributes() == reader.sweep_attributes()
        assert (ledger.untrained, ledger.shares) == (reader.untrained, reader.shares)
        steps += 1
    assert steps == 11 and {one.state for one in ledger.trials()} >= {TrialState.PRUNED, TrialState.FAIL}


def test_what_is_written_together_is_there_together_or_not_at_all(space_of, url):
    ledger = Ledger.create(url, space_of())
    number = ledger.ask().number

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ledger.together():
        ledger.report(number, evaluation(100, 1.0))
        ledger.note_sweep(spent_s=1.0)
        assert len(ledger.trial(number).evaluations) == 1
        event.listen(ledger._storage.engine, "commit", fail)
    event.remove(ledger._storage.engine, "commit", fail)
    for one in (ledger, Ledger.open(url, space_of())):
        assert one.trial(number).evaluations == () and one.sweep_attributes() == {}


def test_one_report_is_one_commit_whatever_it_holds(space_of, url):
    ledger, commits = Ledger.create(url, space_of()), []
    number = ledger.ask().number
    event.listen(ledger._storage.engine, "commit", commits.append)
    with ledger.together():
        ledger.report(number, evaluation(100, 1.0))
        ledger.note(number, startup_s=1.0)
        ledger.note_sweep(spent_s=1.0)
    ledger.trials(), ledger.best(), ledger.untrained
    assert len(commits) == 1


def test_of_many_trials_a_sampler_that_remembers_asks_what_a_new_one_asks(space_of, monkeypatch):
    """Beyond the number from which only some are looked at, with trials that run, failed and diverged."""
    monkeypatch.setattr(propose, "_MANY", 20)
    monkeypatch.setattr(propose, "_MOST_POINTS", 12)
    space, kept, records = space_of(MIXED), AutoSampler(), []
    for number in range(40):
        values = kept.propose(space, records)
        assert number % 8 or values == AutoSampler().propose(space, list(records))
        state = [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.PAUSED][number % 4]
        losses = (2.0 + abs(math.log10(values["lr"]) + 4), 1.5 + abs(math.log10(values["lr"]) + 4))
        seen = tuple(evaluation(100 * k, loss) for k, loss in enumerate(losses, 1))
        records.append(record_of(space, number, values, state, seen))
        if number > 4:  # the one before last has ended since
            records[-3] = replace(records[-3], state=TrialState.COMPLETE)
    assert len({configuration_key(one.values) for one in records}) == 40
    late = [one for one in records[30:] if abs(math.log10(one.values["lr"]) + 4) < 1.5]
    assert len(late) >= 4


def record_of(space, number, values, state, seen):
    return TrialRecord(
        number=number,
        state=state,
        values=values,
        value=seen[-1].metrics["eval/loss"],
        decisive=seen[-1],
        evaluations=seen,
        started_s=float(number),
        attributes={
            "total_tokens": 800,
            "diverged": state is TrialState.FAIL,
            "config": space.close(values).model_dump(mode="json"),
        },
    )


def test_a_continuous_space_has_other_candidates_when_half_of_them_were_asked(space_of):
    coordinates = Coordinates(space_of(MIXED))
    first = coordinates.candidates(set(), seed=0)
    keys = [configuration_key(values) for values in first.values()]
    assert list(coordinates.candidates(set(keys[:200]), seed=0)) == list(first)[200:]
    later = coordinates.candidates(set(keys[:300]), seed=0)
    assert len(later) > 400 and not later.keys() & first.keys()


def test_the_most_promising_of_many_paused_trials_is_told_as_one_by_one(space_of):
    from test_search_stoppers import trial

    space = space_of(MIXED)
    records = []
    for number in range(60):
        curve = [(100 * k, 3.0 - 0.1 * k + 0.3 * math.sin(7 * number) / k) for k in range(1, 4 + number % 4)]
        one = trial(number, *curve, done=number % 3 == 0)
        state = one.state if number % 3 == 0 else TrialState.PAUSED
        records.append(replace(one, values=space.default_values(), state=state, started_s=float(number)))
    standing = make_stopper(space)._view.standing(records)
    paused = [one for one in standing.rows if records[one.number].state is TrialState.PAUSED]
    assert len(paused) == 40
    one_by_one = max(paused, key=lambda one: (standing.chance(one), -one.number))
    assert standing.most_promising().number == one_by_one.number
