"""Constraints in the search and in the choice: nobody wins by breaking one, and the search keeps away."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState, feasible, front_of, violation_of
from sweeper.search.auto import how_sure
from sweeper.search.finals.confirm import chosen, contenders
from sweeper.search.front import ranked
from sweeper.search.losses import Curves
from sweeper.search.records import decisive_of
from sweeper.search.samplers import _remembered, propose
from sweeper.search.stoppers import make_stopper

FORGOT = "eval/retention_increase"
RATES = "\n  lr: {log_uniform: [1.0e-6, 1.0e-2]}\n  epochs: [1, 2, 3]\n"
KEPT = "objective.constraints={eval/retention_increase: '<= 0.1'}", "evaluation.retention=auto"


@pytest.fixture
def space(space_of):
    return space_of(RATES, *KEPT)


def evaluated(tokens: int, loss: float, forgot: float) -> Evaluation:
    metrics = {"eval/loss": loss, FORGOT: forgot}
    return Evaluation(tokens=tokens, step=tokens, seconds=float(tokens), metrics=metrics)


def record(space, number, *curve, state=TrialState.COMPLETE, **values) -> TrialRecord:
    """``curve``: pairs of loss and forgetting."""
    evaluations = tuple(evaluated(100 * place, *one) for place, one in enumerate(curve, start=1))
    decisive = decisive_of(evaluations, space.settings.objective)
    return TrialRecord(
        number=number,
        state=state,
        values={"lr": 1e-4, "epochs": 2.0, **values},
        value=None if decisive is None else decisive.metrics["eval/loss"],
        decisive=decisive,
        evaluations=evaluations,
        attributes={"total_tokens": 400},
    )


def test_the_best_is_the_best_of_those_that_keep_to_the_bound(space):
    trials = [record(space, 0, (0.7, 0.5)), record(space, 1, (0.9, 0.1)), record(space, 2, (0.8, 0.05))]
    trials += [record(space, 3, (0.6, math.nan))]
    assert [one.number for one in ranked(trials, space.settings.objective)] == [2, 1, 0, 3]
    assert chosen(space, trials).number == 2
    assert [one.number for one in contenders(space, trials)] == [2]


def test_where_none_keeps_to_it_the_one_that_breaks_it_least_is_chosen(space):
    trials = [record(space, 0, (0.7, 0.5)), record(space, 1, (0.9, 0.11)), record(space, 2, (0.8, 0.3))]
    assert chosen(space, trials).number == 1
    assert not feasible(trials, space.settings.objective)
    assert violation_of(trials[1], space.settings.objective) == pytest.approx(0.1)


def test_judged_by_its_best_evaluation_a_trial_is_judged_by_one_that_keeps_to_it(space_of):
    space = space_of(RATES, *KEPT, "objective.at=best")
    one = record(space, 0, (1.0, 0.0), (0.9, 0.09), (0.8, 0.2))
    assert (one.decisive.tokens, one.value) == (200, 0.9)
    broken = record(space, 1, (1.0, 0.4), (0.9, 0.5))
    assert broken.decisive.tokens == 100  # which breaks it least


def test_the_front_has_only_what_keeps_to_it(space_of):
    space = space_of(RATES, *KEPT, "objective.also=tokens")
    trials = [
        record(space, 0, (0.7, 0.5)),
        record(space, 1, (0.9, 0.1)),
        record(space, 2, (0.8, 0.0), (0.8, 0.0)),
    ]
    assert [one.number for one in front_of(trials, space.settings.objective)] == [1, 2]


def test_the_chance_to_be_the_best_is_shared_by_those_that_keep_to_it(space):
    trials = [record(space, n, (0.7 + n / 10, 0.5 * (n == 0)), lr=10.0 ** (-3 - n / 4)) for n in range(7)]
    assert set(how_sure(space, trials)) == set(range(1, 7))


def test_an_evaluation_that_breaks_it_is_no_bar_for_others(space):
    curves = Curves.of(space.settings.objective)
    one = record(space, 0, (0.9, 0.0), (0.1, 0.3))
    assert curves.points(one) == [(100, 0.9), (200, math.inf)]
    good = record(space, 1, (1.0, 0.0), (0.95, 0.0), (0.92, 0.0), state=TrialState.RUNNING)
    cheat = record(space, 0, (0.5, 0.3), (0.4, 0.4), (0.3, 0.5), (0.2, 0.5))
    stopper = make_stopper(space, pauses=True)
    assert stopper.decide(1, [cheat, good], 3.0) is None
    running = record(space, 2, (0.5, 0.3), (0.4, 0.4), (0.3, 0.5), state=TrialState.RUNNING)
    ended = record(space, 1, (1.0, 0.0), (0.95, 0.0), (0.92, 0.0), (0.9, 0.0))
    assert stopper.decide(2, [ended, running], 3.0).chance == 0


def task(values: dict) -> tuple[float, float]:
    """The loss is best at 1e-3, where twice as much is forgotten as may be; the bound lies at 10^-3.5."""
    rate = math.log10(values["lr"])
    return 1.0 + 0.1 * (rate + 3) ** 2, 0.1 * 10 ** (rate + 3.5) ** 1 if rate > -5 else 0.0


def searched(space, sampler: str, count: int) -> list[TrialRecord]:
    trials: list[TrialRecord] = []
    for number in range(count):
        values = propose(space, trials, sampler)
        loss, forgot = task(values)
        trials.append(record(space, number, (loss + 0.5, forgot / 2), (loss, forgot), **values))
    return trials


def test_our_own_search_keeps_away_from_what_breaks_it(space_of):
    bound, free = space_of(RATES, *KEPT), space_of(RATES)
    kept = searched(bound, "auto", 12)
    late = [violation_of(one, bound.settings.objective) for one in kept[6:]]
    unbound = [task(one.values)[1] > 0.1 for one in searched(free, "auto", 12)[6:]]
    assert sum(one > 0 for one in late) <= 3 < sum(unbound)
    best = chosen(bound, kept)
    assert not violation_of(best, bound.settings.objective)
    assert task(best.values)[0] < 1.0 + 0.1 * 0.7**2  # the best that may be is 1.025


def test_the_same_trials_give_the_same_proposal(space):
    trials = searched(space, "auto", 6)
    assert propose(space, trials, "auto") == propose(space, list(trials), "auto")


def test_before_any_trial_keeps_to_it_the_search_looks_for_one_that_does(space):
    rates = np.geomspace(1e-3, 1e-2, 5)
    trials = [record(space, n, (0.5, 0.2 + n / 10), lr=float(rate)) for n, rate in enumerate(rates)]
    assert propose(space, trials, "auto")["lr"] < 3e-4


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_optuna_is_told_by_how_much_each_trial_breaks_it(space_of, sampler):
    space = space_of(RATES, *KEPT, f"search.sampler={sampler}")
    trials = [record(space, 0, (0.7, 0.5)), record(space, 1, (0.9, 0.1)), record(space, 2, (0.8, math.nan))]
    told = [one.constraints[FORGOT] for one in _remembered(space, trials, sampler)]
    assert told == pytest.approx([4.0, 0.0, 1e3])
    assert propose(space, trials * 4, sampler) is not None


def test_cmaes_takes_what_breaks_it_for_the_worst(space_of):
    space = space_of(RATES, *KEPT)
    trials = [record(space, 0, (0.7, 0.5)), record(space, 1, (0.9, 0.1))]
    assert [one.value for one in _remembered(space, trials, "cmaes")] == [0.9, 0.9]


def test_a_ledger_that_is_opened_again_chooses_the_same(space, url):
    ledger = Ledger.create(url, space)
    for loss, forgot in ((0.9, 0.0), (0.5, 0.4)):
        number = ledger.ask().number
        ledger.report(number, evaluated(100, loss, forgot))
        ledger.finish(number, TrialState.COMPLETE)
    assert ledger.best().number == Ledger.open(url, space).best().number == 0


def test_a_bound_on_time_or_memory_shares_no_training(space_of, url):
    space = space_of(RATES, "objective.constraints={perf/peak_memory_gib: '<= 4'}")
    assert not Ledger.create(url, space).shares
