"""The range was wrong: the best at its end, and ranges that grow while the sweep runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from search_support import sweep
from test_search_past import bowl, past_of, past_sweep
from test_search_samplers import record_of

from sweeper.errors import SpaceFileError
from sweeper.search import Ledger, TrialRecord, TrialState, edges, space_in_force
from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.extending import RANGES, propose_and_extend, space_to_ask
from sweeper.search.grid import configuration_key
from sweeper.space import LogUniform, Space, as_tree

RANGE = "\n  lr: {log_uniform: [1.0e-6, 1.0e-4]}\n  weight_decay: {uniform: [0.0, 0.1]}\n"
LISTS = "\n  lr: [1.0e-6, 1.0e-5, 1.0e-4]\n  epochs: [1, 2, 3]\n"


def beyond(values: dict) -> float:
    """Best at an lr of 5e-3 and at 4 epochs, outside of both spaces."""
    return abs(math.log10(values["lr"] / 5e-3)) + 0.3 * abs(values.get("epochs", 4) - 4)


def trials_at(*rates: float) -> list:
    return [record_of(n, {"lr": lr, "weight_decay": 0.05}, beyond({"lr": lr})) for n, lr in enumerate(rates)]


# Edges ---------------------------------------------------------------------------------------


def test_the_best_within_a_twentieth_of_a_ranges_end_lies_at_it(space_of):
    space = space_of(RANGE)
    (edge,) = edges(space, trials_at(1e-5, 9e-5, 3e-5))
    assert (edge.name, edge.value, edge.side) == ("lr", 9e-5, "upper")
    assert (edge.searched, edge.wider) == (LogUniform(1e-6, 1e-4), LogUniform(1e-6, 1e-3))
    assert edges(space, trials_at(1e-5, 7e-5, 3e-5)) == []


def test_the_first_or_last_of_a_list_of_numbers_is_its_end(space_of):
    def found(*pairs: tuple[float, float]) -> list:
        records = [
            record_of(n, {"lr": lr, "epochs": e}, beyond({"lr": lr, "epochs": e}))
            for n, (lr, e) in enumerate(pairs)
        ]
        return [(one.name, one.side) for one in edges(space_of(LISTS), records)]

    assert found((1e-4, 3.0), (1e-5, 3.0), (1e-5, 2.0)) == [("lr", "upper"), ("epochs", "upper")]
    assert found((1e-5, 2.0), (1e-6, 2.0)) == []


def test_one_trial_or_good_ones_in_the_other_half_say_that_it_is_not_the_end_that_matters(space_of):
    space = space_of(RANGE)
    assert edges(space, trials_at(9.9e-5)) == []
    good_elsewhere = record_of(2, {"lr": 2e-6, "weight_decay": 0.05}, 1.8)
    assert edges(space, [*trials_at(9.9e-5, 2e-5), good_elsewhere]) == []
    of_eight = trials_at(9.9e-5, 8e-5, 2e-6, 2e-6, 2e-6, 2e-6, 2e-6, 2e-6)
    assert edges(space, of_eight) == []  # two beside the best must lie there, one of them does
    assert edges(space, of_eight[:7])


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.PAUSED])
def test_only_a_trial_that_was_trained_to_its_end_is_the_best_and_others_are_witnesses(space_of, state):
    space, records = space_of(RANGE), trials_at(1e-5, 3e-5, 9.9e-5)
    assert edges(space, [*records[:2], replace(records[2], state=state)]) == []
    assert edges(space, [replace(records[0], state=state), replace(records[1], state=state), records[2]])
    assert edges(space, [replace(records[1], state=TrialState.FAIL), records[2]]) == []


def test_more_can_be_better_than_less(space_of):
    space = space_of(RANGE, "objective.metric=eval/token_accuracy")
    flipped = [replace(one, value=-one.value) for one in trials_at(1e-5, 9e-5, 3e-5)]
    assert [one.value for one in edges(space, flipped)] == [9e-5]


# Ranges that grow ----------------------------------------------------------------------------


def rehearse(space: Space, trials: int, loss: Callable[[dict], float] = beyond) -> list[TrialRecord]:
    """A sweep one trial after the other, without a database."""
    records: list[TrialRecord] = []
    while len(records) < trials:
        values, ranges = propose_and_extend(space, records, space.settings.search.sampler)
        if values is None:
            break
        noted = {RANGES: ranges} if ranges else {}
        records.append(record_of(len(records), values, loss(values), **noted))
    return records


def best(records: list[TrialRecord]) -> float:
    return min(one.value for one in records)


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "qmc"])
def test_a_range_that_grows_reaches_what_lies_outside_of_it(space_of, sampler):
    settings = (f"search.sampler={sampler}", "search.trials=24")
    inside = rehearse(space_of(RANGE, *settings), 24)
    grown = rehearse(space_of(RANGE, *settings, "search.extend=true"), 24)
    assert best(inside) >= beyond({"lr": 1e-4}) > best(grown)
    if sampler in ("auto", "tpe"):
        assert best(grown) < 0.3


@pytest.mark.parametrize("sampler", ["auto", "tpe", "grid"])
def test_lists_of_numbers_grow_too_and_words_do_not(space_of, sampler):
    training = LISTS + "  scheduler: [constant, cosine]\n"
    space = space_of(training, f"search.sampler={sampler}", "search.trials=40", "search.extend=true")
    records = rehearse(space, 40)
    assert max(one.values["lr"] for one in records) == 1e-2
    assert max(one.values["epochs"] for one in records) >= 4
    grown = space_in_force(space, records)
    assert grown.dimension("scheduler").open_value == space.dimension("scheduler").open_value
    assert len({configuration_key(one.values) for one in records}) == 40


def test_it_grows_after_a_third_of_the_trials_each_and_twice_at_most(space_of):
    def noted(trials: int, records: list[TrialRecord]) -> list:
        """The upper end of lr in each trial; every one lies at it, and is better than the one before."""
        space = space_of(RANGE, f"search.trials={trials}", "search.extend={factor: 2}")
        while len(records) < trials:
            asked = space_to_ask(space, records)
            high = asked.dimension("lr").open_value.high
            ranges = {"lr": as_tree(asked.dimension("lr").open_value)} if high > 1e-4 else {}
            values = {"lr": high, "weight_decay": 0.05}
            records.append(record_of(len(records), values, -len(records), **{RANGES: ranges}))
        return [one.values["lr"] for one in records]

    records: list[TrialRecord] = []
    assert noted(12, records) == [1e-4] * 4 + [2e-4] * 4 + [4e-4] * 4
    assert noted(20, records)[12:] == [4e-4] * 8


def test_a_space_of_which_each_configuration_was_asked_grows_at_once(space_of):
    training = "\n  lr: [1.0e-6, 1.0e-5, 1.0e-4]\n"
    space = space_of(training, "search.trials=30", "search.extend=true")
    records = rehearse(space, 30)
    assert [one.values["lr"] for one in records[3:]] == [1e-3, 1e-2]
    first = records[:3]
    runs = [replace(first[0], state=TrialState.RUNNING, value=None, evaluations=()), *first[1:]]
    values, ranges = propose_and_extend(space, runs, "auto")
    assert values is None and ranges == {}  # while one runs, nobody knows whether it lies at the end


def test_trials_side_by_side_are_asked_in_the_same_ranges(space_of):
    space = space_of(RANGE, "search.trials=12", "search.extend=true")
    records = trials_at(2e-5, 5e-5, 9e-5, 9.5e-5)
    noted = []
    for number in range(4, 7):
        values, ranges = propose_and_extend(space, records, "auto")
        running = record_of(number, values, 1.0, **{RANGES: ranges})
        records.append(replace(running, state=TrialState.RUNNING, value=None, evaluations=()))
        noted.append(ranges)
    assert noted == [{"lr": {"log_uniform": [1e-6, 1e-3]}}] * 3


def test_conditional_ranges_grow_where_they_are_searched(space_of):
    training = """
  scheduler: [constant, cosine]
  lr: {log_uniform: [1.0e-6, 1.0e-4], when: {scheduler: cosine}}
"""
    space = space_of(training, "search.trials=18", "search.extend=true")
    records = rehearse(space, 18, lambda values: beyond(values) if "lr" in values else 9.0)
    grown = space_in_force(space, records).dimension("lr")
    assert grown.open_value.high >= 1e-3 and grown.when == (("scheduler", "cosine"),)


def test_what_would_contradict_another_field_does_not_grow(space_of):
    training = "\n  scheduler: wsd\n  warmup_ratio: 0.3\n  decay_ratio: {uniform: [0.2, 0.5]}\n"
    space = space_of(training, "search.trials=3", "search.extend=true")
    records = [record_of(n, {"decay_ratio": one}, 1 - one) for n, one in enumerate((0.4, 0.45, 0.5))]
    assert [one.name for one in edges(space, records)] == ["decay_ratio"]
    assert space_to_ask(space, records) == space


def test_a_grid_never_grows_beyond_what_a_grid_may_have(space_of):
    training = "\n  lr: [1.0e-5, 3.0e-5, 1.0e-4]\n  seed: {int: [0, 3332]}\n"
    space = space_of(training, "search.sampler=grid", "search.trials=3", "search.extend=true")
    records = [record_of(n, {"lr": one, "seed": 0}, -one) for n, one in enumerate((1e-5, 3e-5, 1e-4))]
    assert [one.name for one in edges(space, records)] == ["lr"]
    assert space_to_ask(space, records) == space


def test_a_driver_that_is_killed_anywhere_asks_the_same(space_of, url):
    """A real ledger is opened anew for each question; once a driver dies between asking and starting."""
    training = LISTS + "  weight_decay: {uniform: [0.0, 0.1]}\n"
    space = space_of(training, "search.trials=9", "search.extend=true")

    def loss(values: dict) -> float:
        return beyond(values) - values["weight_decay"]

    whole = [one.values for one in rehearse(space, 9, loss)]
    Ledger.create(url, space)
    parts: list[dict] = []
    for number in range(9):
        ledger = Ledger.open(url, space)
        if number == 4:
            died = Ledger.open(url, space)
            died._start = died._enqueue  # an earlier version, killed between two commits
            died.ask()
            assert ledger.trials()[4].state is TrialState.WAITING
        parts += sweep(ledger, 1, loss)
    assert parts == whole
    assert space_in_force(space, ledger.trials()) != space


def test_a_sweep_keeps_how_its_ranges_grow(space_of, url):
    Ledger.create(url, space_of(RANGE))
    with pytest.raises(SpaceFileError, match=r"search\.extend"):
        Ledger.open(url, space_of(RANGE, "search.extend=true")).ask()


def test_without_extend_nothing_grows_and_nothing_is_noted(space_of):
    space = space_of(RANGE, "search.trials=9")
    assert space_to_ask(space, trials_at(2e-5, 5e-5, 9e-5, 9.5e-5)) is space


def test_past_sweeps_are_seen_in_the_ranges_as_they_have_grown(space_of):
    space = space_of(RANGE, "search.trials=12", "search.extend=true")
    past = past_of(space, past_sweep(bowl(1e-3)))
    assert past.within(space) is past
    asked = space_to_ask(space, trials_at(2e-5, 5e-5, 9e-5, 9.5e-5))
    grown = past.within(asked)
    assert past.within(asked) is grown
    best, end = (Coordinates(asked).point({"lr": lr, "weight_decay": 0.0})[None] for lr in (9e-4, 1e-4))
    assert grown.prior.scores(best)[0, 0] < grown.prior.scores(end)[0, 0]
    values, _ = propose_and_extend(space, trials_at(2e-5, 5e-5, 9e-5, 9.5e-5), "auto", past)
    assert values["lr"] > 1e-4
