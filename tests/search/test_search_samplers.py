from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from search_support import DISCRETE, MIXED, sweep, train

from sweeper.errors import SpaceFileError, UserError
from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState, check_sampler
from sweeper.search.grid import configuration_key, configurations
from sweeper.search.records import is_diverged
from sweeper.search.samplers import propose, startup_trials
from sweeper.space import Space


def loss_of(values: dict) -> float:
    return abs(math.log10(values["lr"]) + 4) + 0.1 * (values["scheduler"] == "constant")


def record_of(number: int, values: dict, value: float, **attributes: object) -> TrialRecord:
    finite = math.isfinite(value)
    metrics = {"eval/loss": value}
    return TrialRecord(
        number=number,
        state=TrialState.COMPLETE if finite else TrialState.FAIL,
        values=values,
        value=value,
        evaluations=(Evaluation(tokens=100, step=1, seconds=0.0, metrics=metrics),),
        attributes=attributes,
    )


def rehearse(
    space: Space, trials: int, loss: Callable[[dict], float], *, after: Sequence[TrialRecord] = ()
) -> list[TrialRecord]:
    """A sweep one trial after the other, without a database."""
    records = list(after)
    for number in range(len(records), trials):
        values = propose(space, records) if records else space.default_values()
        if values is None:
            break
        records.append(record_of(number, values, loss(values)))
    return records


def distinct(records: list[TrialRecord]) -> int:
    return len({configuration_key(record.values) for record in records})


def test_the_same_seed_gives_the_same_trials(space_of, tmp_path):
    space = space_of(MIXED, "search.seed=7", "search.trials=12")
    one, other = (
        sweep(Ledger.create(f"sqlite:///{tmp_path}/{run}.db", space), 7, loss_of) for run in ("one", "other")
    )
    assert one == other


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "qmc", "gp"])
def test_every_sampler_gives_the_same_trials_from_the_same_seed(space_of, sampler):
    space = space_of(MIXED, f"search.sampler={sampler}", "search.seed=7", "search.trials=6")
    one, other = (rehearse(space, 6, loss_of) for _ in range(2))
    assert one == other
    assert distinct(one) == 6


def test_another_seed_gives_other_trials(space_of):
    one, other = (rehearse(space_of(MIXED, f"search.seed={seed}"), 4, loss_of) for seed in (0, 1))
    assert one[0] == other[0]  # the rules of thumb
    assert all(a.values != b.values for a, b in zip(one[1:], other[1:], strict=True))


def test_a_resumed_sweep_asks_what_an_uninterrupted_one_asks(space_of, tmp_path):
    space = space_of(MIXED, "search.trials=12")
    whole = rehearse(space, 8, loss_of)
    url = f"sqlite:///{tmp_path}/parts.db"
    parts = sweep(Ledger.create(url, space), 5, loss_of)
    parts += sweep(Ledger.open(url, space), 3, loss_of)
    assert parts == [record.values for record in whole]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "gp", "random", "qmc", "grid"])
def test_a_sweep_that_gets_more_trials_asks_what_one_of_that_many_asks(space_of, sampler):
    def space(trials: int) -> Space:
        lr = DISCRETE if sampler == "grid" else MIXED
        return space_of(lr, f"search.sampler={sampler}", f"search.trials={trials}")

    begun = rehearse(space(3), 3, loss_of)
    assert rehearse(space(6), 6, loss_of, after=begun) == rehearse(space(6), 6, loss_of)


def test_only_what_tpe_drew_by_its_model_before_a_longer_sweep_would_have_is_another(space_of):
    """How many trials are drawn at random first is a share of their number: 4 of 12, and 10 of 30."""

    def values(trials: int) -> list[dict]:
        space = space_of(MIXED, "search.sampler=tpe", f"search.trials={trials}")
        return [record.values for record in rehearse(space, 6, loss_of)]

    assert values(12)[:4] == values(30)[:4]
    assert values(12)[5] != values(30)[5]


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
def test_a_model_finds_better_learning_rates_than_chance(space_of, sampler):
    def mean_of_last(sampler: str) -> float:
        spaces = [
            space_of(MIXED, f"search.sampler={sampler}", f"search.seed={s}", "search.trials=24")
            for s in range(3)
        ]
        last = [record.value for space in spaces for record in rehearse(space, 24, loss_of)[-8:]]
        return sum(last) / len(last)

    assert mean_of_last(sampler) < 0.7 * mean_of_last("random")


@pytest.mark.parametrize("sampler", ["auto", "tpe", "gp", "random", "qmc"])
def test_a_paused_trial_is_known_to_every_sampler(space_of, sampler):
    space = space_of(MIXED, f"search.sampler={sampler}", "search.trials=6")
    records = rehearse(space, 5, loss_of)
    paused = [*records[:4], replace(records[4], state=TrialState.PAUSED)]
    values = propose(space, paused)
    assert configuration_key(values) not in {configuration_key(record.values) for record in records}


def test_a_diverged_region_is_avoided_though_its_trials_are_failed(space_of):
    space = space_of("\n  lr: {log_uniform: [1.0e-6, 1.0e-2]}\n", "search.trials=30")

    def diverged_after_startup(noticed: bool) -> int:
        records: list[TrialRecord] = []
        for number in range(30):
            values = propose(space, records) if records else space.default_values()
            value = math.nan if values["lr"] > 3e-4 else 3 + math.log10(1e-3 / values["lr"])
            record = record_of(number, values, value)
            silent = math.isnan(value) and not noticed
            records.append(replace(record, value=None, evaluations=()) if silent else record)
        return sum(record.state is TrialState.FAIL for record in records[10:])

    assert diverged_after_startup(noticed=True) < diverged_after_startup(noticed=False)


def test_what_failed_for_the_machines_sake_says_nothing_about_its_values():
    lost = TrialRecord(number=0, state=TrialState.FAIL, values={"lr": 1.0}, value=2.0)
    assert not is_diverged(lost, "eval/loss")
    assert is_diverged(record_of(0, {"lr": 1.0}, math.nan), "eval/loss")
    noted = TrialRecord(number=0, state=TrialState.FAIL, values={}, value=None, attributes={"diverged": True})
    assert is_diverged(noted, "eval/loss")


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "qmc", "gp"])
def test_every_sampler_stands_a_sweep_of_failures(space_of, sampler):
    space = space_of(MIXED, f"search.sampler={sampler}", "search.trials=8")
    assert distinct(rehearse(space, 8, lambda values: math.nan)) == 8


def test_tpe_goes_on_asking_for_whole_configurations_under_conditions(space_of):
    for record in rehearse(space_of(MIXED, "search.trials=16"), 16, loss_of):
        assert ("final_lr_ratio" in record.values) == (record.values["scheduler"] == "cosine")


def test_samplers_know_of_running_and_stopped_trials(space_of, url):
    space = space_of(MIXED, "search.trials=12")
    ledger = Ledger.create(url, space)
    sweep(ledger, 5, loss_of)
    side_by_side = [ledger.ask() for _ in range(3)]
    assert len({str(record.values) for record in side_by_side}) == 3
    ledger.report(
        side_by_side[0].number, Evaluation(tokens=1, step=1, seconds=0.0, metrics={"eval/loss": 9.0})
    )
    ledger.finish(side_by_side[0].number, TrialState.PRUNED, "hopeless")
    assert ledger.ask() is not None


@pytest.mark.parametrize("sampler", ["auto", "tpe", "gp", "random", "qmc"])
def test_samplers_know_of_paused_trials(space_of, sampler):
    space = space_of(MIXED, f"search.sampler={sampler}", "search.trials=12")
    records = rehearse(space, 6, loss_of)
    records.append(replace(record_of(6, propose(space, records), 2.0), state=TrialState.PAUSED))
    assert configuration_key(propose(space, records)) not in {configuration_key(r.values) for r in records}


def test_gp_models_what_it_was_told(space_of):
    space = space_of("\n  lr: {log_uniform: [1.0e-6, 1.0e-2]}\n  epochs: [1, 2, 3]\n", "search.sampler=gp")
    records = rehearse(space, 8, lambda v: abs(math.log10(v["lr"]) + 4) + (3 - v["epochs"]))
    assert min(record.value for record in records) < 0.3


@pytest.mark.parametrize(("trials", "startup"), [(1, 4), (8, 4), (16, 5), (24, 8), (30, 10), (500, 10)])
def test_small_budgets_have_a_short_startup(trials, startup):
    assert startup_trials(trials) == startup


def test_a_grid_asks_each_distinct_configuration_once_and_then_none(space_of, url):
    space = space_of(DISCRETE, "search.sampler=grid")
    ledger = Ledger.create(url, space)
    asked = []
    while (record := ledger.ask()) is not None:
        asked.append(record.values)
        train(ledger, record, 1.0)
    expected = [{"lr": lr, "scheduler": "constant"} for lr in (1e-5, 1e-4, 1e-3)] + [
        {"lr": lr, "scheduler": "cosine", "final_lr_ratio": ratio}
        for lr, ratio in itertools.product((1e-5, 1e-4, 1e-3), (0.0, 0.1))
    ]
    assert len(asked) == len(expected) == 9
    assert all(values in asked for values in expected)
    assert asked[0] == space.default_values()
    assert ledger.ask() is None


def test_a_grid_goes_on_where_it_was_left(space_of, url):
    space = space_of(DISCRETE, "search.sampler=grid")
    first = sweep(Ledger.create(url, space), 5, loss_of)
    again = Ledger.open(url, space)
    rest = sweep(again, 4, loss_of)
    assert len({str(sorted(values.items())) for values in first + rest}) == 9
    assert again.ask() is None


def test_a_grid_is_not_walked_in_the_order_of_the_file(space_of):
    space = space_of(DISCRETE, "search.sampler=grid")
    asked = [record.values for record in rehearse(space, 9, loss_of)]
    assert asked[1:] != [values for values in configurations(space) if values != asked[0]]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid"])
def test_no_sampler_asks_a_discrete_configuration_twice(space_of, sampler):
    records = rehearse(space_of(DISCRETE, f"search.sampler={sampler}"), 20, loss_of)
    assert len(records) == distinct(records) == 9


def test_a_grid_of_a_continuous_range_is_refused_with_the_remedy(space_of):
    space = space_of(MIXED, "search.sampler=grid")
    with pytest.raises(SpaceFileError) as caught:
        check_sampler(space)
    lr, ratio = caught.value.problems
    assert "trying.yaml:5" in lr.where and lr.value == "lr from 1e-06 to 0.01"
    assert "trying.yaml:7" in ratio.where
    assert "write a list" in lr.remedy
    with pytest.raises(UserError):
        Ledger.create("sqlite:///never-made.db", space)


def test_a_grid_of_too_many_configurations_is_refused(space_of):
    space = space_of("\n  seed: {int: [0, 20000]}\n", "search.sampler=grid")
    with pytest.raises(SpaceFileError, match="10,000"):
        check_sampler(space)


def test_a_range_longer_than_memory_is_searched_without_being_written_out(space_of):
    space = space_of("\n  seed: {int: [0, 2147483647]}\n", "search.sampler=random")
    assert configurations(space) is None
    assert propose(space, [])
