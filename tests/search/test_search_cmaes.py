"""CMA-ES, whose state Optuna keeps in the trials that it was asked for, on a ledger that keeps none of it."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from test_search_samplers import record_of, rehearse

from sweeper.errors import MissingDependencyError, SpaceFileError
from sweeper.search import TrialState, check_sampler, samplers
from sweeper.search.grid import configuration_key
from sweeper.search.samplers import propose

NUMBERS = """
  lr: {log_uniform: [1.0e-6, 1.0e-2]}
  weight_decay: {uniform: [0.0, 0.4]}
  epochs: [1, 2, 3, 4]
"""
POPULATION = 7
"""4 + floor(3 ln 3), the sampler's own choice for three dimensions."""


def bowl(values: dict) -> float:
    """Best at lr 1e-5, decay 0.3 and 3 epochs, far from the middle."""
    return (
        (math.log10(values["lr"]) + 5) ** 2
        + 25 * (values["weight_decay"] - 0.3) ** 2
        + 0.2 * (values["epochs"] - 3) ** 2
    )


@pytest.fixture
def evolution():
    pytest.importorskip("cmaes")


def mean(figures: Sequence[float]) -> float:
    return sum(figures) / len(figures)


def test_each_generation_of_cmaes_is_better_than_the_one_before_and_random_is_not(space_of, evolution):
    def generations(sampler: str) -> list[float]:
        spaces = [
            space_of(NUMBERS, f"search.sampler={sampler}", f"search.seed={seed}", "search.trials=60")
            for seed in range(3)
        ]
        ran = [[record.value for record in rehearse(space, 1 + 6 * POPULATION, bowl)[1:]] for space in spaces]
        return [mean([mean(one[k : k + POPULATION]) for one in ran]) for k in range(0, 42, POPULATION)]

    evolved, drawn = generations("cmaes"), generations("random")
    assert evolved[2] < 0.7 * evolved[0] and evolved[5] < 0.4 * evolved[2]
    assert evolved[5] < 0.2 * drawn[5]


def test_a_replay_of_the_ledger_comes_to_the_state_of_the_sampler_that_never_stopped(
    space_of, evolution, monkeypatch
):
    import optuna

    space, copies = space_of(NUMBERS, "search.sampler=cmaes"), []
    never_stopped = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=1))
    records = []
    for number in range(24):
        if number == 0:
            never_stopped.enqueue_trial({"lr": 1e-4, "weight_decay": 0.1, "epochs": 2})
        trial = never_stopped.ask()
        values = samplers._ask(space, trial)
        records.append(record_of(number, values, bowl(values)))
        never_stopped.tell(trial, bowl(values))
    make = samplers._study
    monkeypatch.setattr(samplers, "_study", lambda *args: copies.append(make(*args)) or copies[-1])
    propose(space, records)
    assert optimizer_of(copies[-1]) == optimizer_of(never_stopped)


def optimizer_of(study) -> tuple:
    """Mean and covariance as Optuna has kept them with the trial that began the newest generation."""
    key = "cma:optimizer"
    kept = [one.system_attrs for one in study.trials if f"{key}:0" in one.system_attrs][-1]
    parts = [kept[f"{key}:{index}"] for index in range(sum(name.startswith(key) for name in kept))]
    optimizer = pickle.loads(bytes.fromhex("".join(parts)))
    return kept["cma:generation"], optimizer.mean.tolist(), optimizer._C.tolist()


def test_trials_side_by_side_move_the_distribution_too(space_of, evolution):
    space = space_of(NUMBERS, "search.sampler=cmaes", "search.trials=60")
    records = [record_of(0, space.default_values(), bowl(space.default_values()))]
    while len(records) < 41:
        for number in range(len(records), len(records) + 4):
            running = replace(record_of(number, propose(space, records), 1.0), state=TrialState.RUNNING)
            records.append(replace(running, value=None, evaluations=()))
        records[-4:] = [record_of(one.number, one.values, bowl(one.values)) for one in records[-4:]]
    assert len({configuration_key(one.values) for one in records}) == 41
    assert mean([one.value for one in records[-8:]]) < 0.3 * mean([one.value for one in records[1:9]])


@pytest.mark.parametrize("seed", range(2))
def test_cmaes_asks_the_same_from_the_same_records(space_of, evolution, seed):
    space = space_of(NUMBERS, "search.sampler=cmaes", f"search.seed={seed}")
    whole = rehearse(space, 20, bowl)
    assert rehearse(space, 20, bowl, after=whole[:11]) == whole


def test_what_was_stopped_paused_or_diverged_counts_by_its_value(space_of, evolution):
    space = space_of(NUMBERS, "search.sampler=cmaes")
    records = rehearse(space, 16, bowl)
    ended = [TrialState.PRUNED, TrialState.PAUSED, TrialState.COMPLETE]
    mixed = [replace(one, state=ended[one.number % 3]) for one in records]
    assert propose(space, mixed) == propose(space, records)
    diverged = [record_of(one.number, one.values, math.nan) if one.number == 3 else one for one in records]
    assert propose(space, diverged) != propose(space, records)


def test_cmaes_stands_a_sweep_of_failures(space_of, evolution):
    space = space_of(NUMBERS, "search.sampler=cmaes", "search.trials=10")
    assert len({configuration_key(one.values) for one in rehearse(space, 10, lambda _: math.nan)}) == 10


def test_one_dimension_is_enough(space_of, evolution):
    space = space_of("\n  lr: {log_uniform: [1.0e-6, 1.0e-2]}\n", "search.sampler=cmaes", "search.trials=30")
    records = rehearse(space, 30, lambda values: abs(math.log10(values["lr"]) + 5))
    assert mean([one.value for one in records[-8:]]) < 0.6 < mean([one.value for one in records[1:9]])


def test_what_is_no_number_or_not_in_every_trial_is_refused_all_at_once(space_of):
    space = space_of(
        """
  lr: {log_uniform: [1.0e-6, 1.0e-2]}
  scheduler: [constant, cosine]
  final_lr_ratio: {uniform: [0.0, 0.5], when: {scheduler: cosine}}
  weight_decay: {choice: [0.0, 0.1]}
""",
        "search.sampler=cmaes",
    )
    with pytest.raises(SpaceFileError) as caught:
        check_sampler(space)
    scheduler, decay, ratio = sorted(caught.value.problems, key=lambda one: one.rule + one.value)
    assert scheduler.value == "scheduler: constant | cosine" and "trying.yaml:6" in scheduler.where
    assert decay.value == "weight_decay: 0 | 0.1" and "at least three numbers" in decay.rule
    assert ratio.value == "final_lr_ratio: 0 .. 0.5" and "in some trials only" in ratio.rule
    assert all(one.remedy == "write one value, or choose sampler: auto" for one in caught.value.problems)


def test_without_its_package_cmaes_is_refused_with_what_to_install(space_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    space = space_of(NUMBERS, "search.sampler=cmaes")
    with pytest.raises(MissingDependencyError, match=r"pip install 'sweeper\[cmaes\]'"):
        check_sampler(space)
