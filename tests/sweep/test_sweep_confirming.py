"""The best trials under other seeds: ledger, queue and recorder drive trials whose losses are a formula."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_drivers import Killed, drive_through

from sweeper.data import gather_facts
from sweeper.search import (
    Ledger,
    TrialRecord,
    TrialState,
    asked_config,
    confirmation_of,
    make_stopper,
    searched,
)
from sweeper.space import Space, SweepFolder, load_space
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.training import STARTUP, Prepared, Progress

TRIALS, EVALUATIONS, TOKENS, TRIAL_S = 5, 2, 800, 10.0


def loss_of(lr: float, seed: int, noise: float = 0.02) -> float:
    """Best near 1e-3. What a seed does, it does to all alike, and a little to each."""
    own = random.Random(f"{lr} {seed}").gauss(0, 1)
    return 2 + 0.1 * abs(math.log10(lr) + 3) + random.Random(seed).gauss(0, 0.3) + noise * own


class Sweep:
    """One folder; drivers come and go. Each trial takes ``TRIAL_S`` on a clock of its own."""

    def __init__(self, root: Path, space: Space) -> None:
        self.space, self.folder, self.now, self.noise = space, SweepFolder(root), 0.0, 0.02
        root.mkdir(parents=True)
        Ledger.create(self.folder.study_url, space)
        self.order: list[int] = []
        """Trials as they got their places."""

    def drive(self, moment: Callable[[], None] = lambda: None) -> Sweep:
        """One driver with one worker; ``moment`` comes wherever it may be killed."""
        ledger = Ledger.open(self.folder.study_url, self.space)
        stopper = make_stopper(self.space, pauses=ledger.pauses)
        recorder = Recorder(
            self.space, ledger, self.folder, stopper, [], data_dir=self.folder.root, clock=lambda: self.now
        )
        self.recorder = recorder
        while not recorder.is_over() and (found := recorder.next_job()) is not None:
            moment()
            self._train(recorder, *found, moment)
        recorder.conclude()
        ledger.close()
        return self

    def _train(self, recorder: Recorder, number: int, job, moment) -> None:
        recorder.started(number)
        self.order.append(number)
        training = job.config.training
        prepared = Prepared(total_steps=EVALUATIONS, total_tokens=TOKENS, ds_config={})
        for index in range(1, EVALUATIONS + 1):
            self.now += TRIAL_S / EVALUATIONS
            loss = loss_of(training.lr, training.seed, self.noise)
            progress = Progress(
                step=index,
                tokens=index * TOKENS // EVALUATIONS,
                seconds=index * TRIAL_S / EVALUATIONS,
                metrics={"eval/loss": loss, STARTUP: 0.0},
                done=index == EVALUATIONS,
                time_s=self.now,
            )
            if progress.done and job.model_folder is not None:
                self._save_model(job, loss)
            moment()
            goes_on = recorder.record(Outcome(number=number, prepared=prepared, progress=progress))
            prepared = None
            moment()
            if not goes_on:
                return

    def _save_model(self, job, loss: float) -> None:
        if job.best_so_far is None or loss < job.best_so_far:
            job.model_folder.mkdir(parents=True, exist_ok=True)

    def trials(self) -> list[TrialRecord]:
        return Ledger.open(self.folder.study_url, self.space).trials()

    def runs(self) -> list[tuple[int | None, int | None]]:
        return [(one.replicate_of, one.seed) for one in self.trials() if one.replicate_of is not None]

    def ends(self) -> list[tuple]:
        return [
            (one.number, one.state, one.values, one.replicate_of, one.seed, one.value)
            for one in self.trials()
        ]

    def copied(self, root: Path, space: Space) -> Sweep:
        other = copy.copy(self)
        other.folder, other.space = SweepFolder(shutil.copytree(self.folder.root, root)), space
        return other


@pytest.fixture(scope="module")
def space(tmp_path_factory, write_space) -> Space:
    file = write_space(
        tmp_path_factory.mktemp("confirming"),
        training={
            "lr": {"log_uniform": [1e-5, 1e-1]},
            "scheduler": "constant",
            "epochs": 1,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        search={
            "trials": TRIALS,
            "seed": 3,
            "sampler": "random",
            "stopper": "none",
            "confirm": {"top": 3, "seeds": 4},
        },
        objective={"evaluations": EVALUATIONS},
    )
    return load_space(file, gather=gather_facts)


def changed(space: Space, **changes) -> Space:
    search = space.settings.search.model_copy(update=changes)
    return dataclasses.replace(space, settings=space.settings.model_copy(update={"search": search}))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, space) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("sweeps") / "undisturbed", space).drive()


def test_when_all_trials_were_run_the_best_train_again_round_by_round(undisturbed, space):
    trials = undisturbed.trials()
    own = trials[:TRIALS]
    assert all(one.replicate_of is None and one.state is TrialState.COMPLETE for one in own)
    best = [one.number for one in sorted(own, key=lambda one: one.value)[:3]]
    runs = undisturbed.runs()
    assert runs[:6] == [(number, seed) for seed in (1, 2) for number in best]
    for seed in (3, 4):
        in_round = [number for number, one in runs if one == seed]
        assert set(in_round) <= set(best) and len(in_round) != 1
    assert len(trials) == TRIALS + len(runs)
    found = confirmation_of(space, trials)
    assert found.is_over and found.chosen is not None
    ended = Ledger.open(undisturbed.folder.study_url, space).sweep_attributes()["ended"]
    assert ended == f"all {TRIALS} trials were run"


def test_a_run_trains_what_its_trial_trained_but_for_the_seed(undisturbed, space):
    trials = undisturbed.trials()
    for run in trials[TRIALS:]:
        noted = run.attributes["config"]
        assert noted == asked_config(space, run).model_dump(mode="json")
        own = trials[run.replicate_of].attributes["config"]
        assert noted["training"]["seed"] == run.seed != own["training"]["seed"]
        assert {**noted, "training": {**noted["training"], "seed": own["training"]["seed"]}} == own


def test_a_candidate_that_is_told_apart_gets_no_further_run(tmp_path, space):
    """Without noise of their own the differences between the trials are the same under every seed."""
    sweep = Sweep(tmp_path / "clear", space)
    sweep.noise = 1e-6
    sweep.drive()
    assert len(sweep.runs()) == 6 and {seed for _, seed in sweep.runs()} == {1, 2}


@pytest.mark.parametrize("seed", range(2))
def test_a_sweep_that_is_killed_again_and_again_ends_in_the_same_trials_and_runs(
    tmp_path, space, undisturbed, seed
):
    sweep = Sweep(tmp_path / "killed", space)
    drive_through(sweep.drive, kills=12, odds=0.3, seed=seed)
    assert sweep.ends() == undisturbed.ends()


def test_more_trials_are_those_of_a_longer_search_and_runs_that_are_there_are_used(
    tmp_path, space, undisturbed
):
    longer = undisturbed.copied(tmp_path / "longer", changed(space, trials=TRIALS + 3)).drive()
    whole = Sweep(tmp_path / "whole", longer.space).drive()
    values = [[one.values for one in searched(sweep.trials())] for sweep in (longer, whole)]
    assert values[0] == values[1] and len(values[0]) == TRIALS + 3
    assert longer.ends()[: len(undisturbed.ends())] == undisturbed.ends()
    assert len(longer.runs()) == len(set(longer.runs()))
    # The chosen one is known by its values: its number is another where runs have come in between.
    chosen = [Ledger.open(one.folder.study_url, one.space).best().values for one in (longer, whole)]
    assert chosen[0] == chosen[1]


def test_what_has_been_confirmed_is_not_trained_again(tmp_path, space, undisturbed):
    again = undisturbed.copied(tmp_path / "again", space)
    before = len(again.order)
    again.drive()
    assert len(again.order) == before and again.ends() == undisturbed.ends()


def test_the_models_of_all_that_may_be_chosen_are_kept_and_no_others(undisturbed):
    trials = undisturbed.trials()
    best = {one.number for one in sorted(trials[:TRIALS], key=lambda one: one.value)[:3]}
    kept = {one.number for one in trials if undisturbed.folder.trial_model(one.number).is_dir()}
    assert kept == best


def test_a_run_is_neither_paused_nor_a_rival_of_trials(tmp_path, write_space):
    """Under ``median`` the runs of the best, which are worse under their seeds, would be stopped."""
    file = write_space(
        tmp_path,
        search={"trials": 6, "stopper": "median", "sampler": "random", "confirm": {"top": 2, "seeds": 2}},
        objective={"evaluations": EVALUATIONS},
    )
    space = load_space(file, gather=gather_facts)
    sweep = Sweep(tmp_path / "sweep", space).drive()
    runs = [one for one in sweep.trials() if one.replicate_of is not None]
    assert len(runs) == 4 and all(one.state is TrialState.COMPLETE for one in runs)
    plain = Sweep(tmp_path / "plain", changed(space, confirm=type(space.settings.search.confirm)())).drive()
    assert sweep.ends()[:6] == plain.ends()


def test_the_search_leaves_time_for_the_runs_and_goes_on_when_it_gets_more(tmp_path, space):
    """Twenty trials take 200 s and the runs at most 90; of 172 s the search has 86 at most."""
    confirm = space.settings.search.confirm.model_copy(update={"top": 3, "seeds": 3})
    short = changed(space, trials=20, time_budget_s=172.0, confirm=confirm)
    sweep = Sweep(tmp_path / "short", short).drive()
    trials = sweep.trials()
    assert [one.state for one in trials] == [TrialState.COMPLETE] * len(trials)
    assert sweep.now <= 172 and 6 <= len(searched(trials)) <= 8 and len(sweep.runs()) >= 6
    ledger = Ledger.open(sweep.folder.study_url, short)
    said = ledger.sweep_attributes()["ended"]
    assert said.startswith("the search's part of the time budget (2m52s) is spent: ") and "of 20" in said
    assert confirmation_of(short, trials).is_over
    # The same budget: nothing is begun. More of it: the search goes on, and confirms again.
    before = len(sweep.order)
    sweep.drive()
    assert len(sweep.order) == before
    sweep.now, count = 0.0, len(searched(trials))
    sweep.space = changed(short, time_budget_s=400.0)
    more = sweep.drive().trials()
    assert len(searched(more)) > count
    assert confirmation_of(sweep.space, more).is_over


def test_a_sweep_killed_while_it_confirms_on_a_budget_does_not_search_on(tmp_path, space):
    short = changed(space, trials=20, time_budget_s=160.0)
    sweep = Sweep(tmp_path / "short", short)

    def moment() -> None:
        if len(sweep.runs()) == 2:
            raise Killed

    with pytest.raises(Killed):
        sweep.drive(moment)
    sweep.now, count = 0.0, len(searched(sweep.trials()))  # as if what was spent since were not known
    sweep.drive()
    assert len(searched(sweep.trials())) == count and len(sweep.runs()) >= 6


def test_a_budget_that_ends_in_the_middle_of_a_run_leaves_the_choice_to_the_trials_own_runs(tmp_path, space):
    tight = changed(space, time_budget_s=61.0)
    sweep = Sweep(tmp_path / "tight", tight).drive()
    found = confirmation_of(tight, sweep.trials())
    assert found.chosen is None and not found.is_over
    best = min(searched(sweep.trials()), key=lambda one: one.value)
    assert Ledger.open(sweep.folder.study_url, tight).best().number == best.number
