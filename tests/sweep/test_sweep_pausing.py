"""Trials that pause and go on: ledger, queue and recorder drive trials whose losses are a formula."""

from __future__ import annotations

import copy
import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_drivers import drive_through

from sweeper.data import gather_facts
from sweeper.search import Ledger, TrialRecord, TrialState, make_stopper
from sweeper.search.stoppers import HopelessStopper, PausingStopper
from sweeper.space import Space, SweepFolder, load_space
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.paused_states import size_gib, states_to_drop
from sweeper.sweep.recorder import Recorder
from sweeper.training import Prepared, Progress

TRIALS, EVALUATIONS, TOKENS = 14, 8, 800


def loss_of(values: dict, fraction: float) -> float:
    """Large rates fall at once and stay, small ones are late; the best is near 1e-4."""
    distance = abs(math.log10(values["lr"]) + 4)
    late = max(0.0, -4 - math.log10(values["lr"]))
    return (
        1
        + 0.3 * distance
        + 0.05 * (values["scheduler"] == "constant")
        + 2 * (1 - fraction) ** (1 / (1 + late))
    )


class Sweep:
    """One folder, and what its trials have on the disk; drivers come and go."""

    def __init__(self, root: Path, space: Space) -> None:
        self.space, self.folder = space, SweepFolder(root)
        root.mkdir(parents=True)
        Ledger.create(self.folder.study_url, space)
        self.states: dict[int, int] = {}
        """Trial -> evaluations of its newest state."""
        self.asked: dict[int, dict] = {}
        self.has_files = False
        """Whether states are files, too."""
        self.trained = 0
        """Evaluations in all, those that were trained again among them."""

    def drive(self, moment: Callable[[], None] = lambda: None) -> None:
        """One driver with one worker; ``moment`` comes wherever it may be killed."""
        ledger = Ledger.open(self.folder.study_url, self.space)
        stopper = make_stopper(self.space, pauses=ledger.pauses)
        recorder = Recorder(self.space, ledger, self.folder, stopper, [], data_dir=self.folder.root)
        while not recorder.is_over() and (job := recorder.next_job()) is not None:
            moment()
            self._train(recorder, *job, moment)
        ledger.close()

    def _train(self, recorder: Recorder, number: int, job, moment) -> None:
        recorder.started(number)
        prepared = Prepared(total_steps=EVALUATIONS, total_tokens=TOKENS, ds_config={})
        for index in range(self.states.get(number, 0) + 1, EVALUATIONS + 1):
            self.trained += 1
            progress = Progress(
                step=index,
                tokens=index * TOKENS // EVALUATIONS,
                seconds=index * self.pace_s(self.values(number)),
                metrics={"eval/loss": self.loss(self.values(number), index / EVALUATIONS)},
                done=index == EVALUATIONS,
                time_s=float(self.trained),
            )
            moment()
            goes_on = recorder.record(Outcome(number=number, prepared=prepared, progress=progress))
            prepared = None
            moment()
            if not goes_on:
                return
            self.states[number] = index
            if self.has_files:
                file = job.checkpoints / f"step-{index:08d}" / "rank0.pt"
                file.parent.mkdir(parents=True)
                file.write_bytes(bytes(1024))
            moment()
            if job.pause_file.exists():
                assert not recorder.record(Outcome(number=number, paused=True))
                moment()
                return

    def loss(self, values: dict, fraction: float) -> float:
        return loss_of(values, fraction)

    def pace_s(self, values: dict) -> float:
        """Seconds from one evaluation to the next."""
        return 1.0

    def values(self, number: int) -> dict:
        if number not in self.asked:
            self.asked[number] = dict(self.trials()[number].values)
        return self.asked[number]

    def trials(self) -> list[TrialRecord]:
        return Ledger.open(self.folder.study_url, self.space).trials()

    def ends(self) -> list[tuple]:
        return [
            (one.number, one.state, one.values, one.chance, [(e.tokens, e.metrics) for e in one.evaluations])
            for one in self.trials()
        ]


@pytest.fixture(scope="module")
def space(tmp_path_factory, write_space) -> Space:
    file = write_space(
        tmp_path_factory.mktemp("pausing"),
        training__lr={"log_uniform": [1e-6, 1e-2]},
        training__scheduler=["constant", "cosine"],
        search={"trials": TRIALS, "seed": 3},
        objective={"evaluations": EVALUATIONS},
    )
    return load_space(file, gather=gather_facts)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, space) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("sweeps") / "undisturbed", space)
    sweep.drive()
    return sweep


def test_what_has_little_chance_is_paused_and_the_winner_is_trained_to_its_end(undisturbed):
    trials = undisturbed.trials()
    states = [one.state for one in trials]
    assert len(trials) == TRIALS
    assert states.count(TrialState.PAUSED) >= 3
    paused = [one for one in trials if one.state is TrialState.PAUSED]
    assert all(one.chance is not None and one.chance <= 0.25 and "chance" in one.reason for one in paused)
    ends = [loss_of(dict(one.values), 1.0) for one in trials]
    best = trials[ends.index(min(ends))]
    assert best.state is TrialState.COMPLETE
    assert undisturbed.trained < 0.8 * TRIALS * EVALUATIONS


@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_that_is_killed_ten_times_ends_in_the_trials_of_an_undisturbed_one(
    tmp_path, space, undisturbed, seed
):
    sweep = Sweep(tmp_path / "killed", space)
    drive_through(sweep.drive, kills=10, odds=0.08, seed=seed)
    assert sweep.ends() == undisturbed.ends()


def test_a_sweep_that_gets_more_trials_keeps_what_was_trained_to_its_end(tmp_path, space, undisturbed):
    before = {one.number: one.state for one in undisturbed.trials()}
    search = space.settings.search.model_copy(update={"trials": TRIALS + 4})
    longer = copy.copy(undisturbed)
    longer.folder = SweepFolder(shutil.copytree(undisturbed.folder.root, tmp_path / "longer"))
    longer.states = dict(undisturbed.states)
    longer.space = dataclasses.replace(space, settings=space.settings.model_copy(update={"search": search}))
    longer.drive()
    after = longer.trials()
    assert len(after) == TRIALS + 4
    complete = [number for number, state in before.items() if state is TrialState.COMPLETE]
    assert all(after[number].state is TrialState.COMPLETE for number in complete)


def test_without_states_on_the_disk_nothing_is_paused(space):
    closed = {**space.closed, "checkpoints.keep_last": 0}
    assert isinstance(make_stopper(space), PausingStopper)
    assert isinstance(make_stopper(dataclasses.replace(space, closed=closed)), HopelessStopper)
    assert isinstance(make_stopper(space, pauses=False), HopelessStopper)


def test_the_states_of_paused_trials_keep_within_their_part_of_the_disk(tmp_path):
    folder, mib = SweepFolder(tmp_path), 2**20
    records = []
    for number, chance in enumerate([0.2, 0.01, 0.1, None]):
        state = TrialState.COMPLETE if chance is None else TrialState.PAUSED
        records.append(TrialRecord(number=number, state=state, values={}, value=None, chance=chance))
        file = folder.trial_checkpoints(number) / "step-00000001" / "rank0.pt"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(mib))
    sizes = {number: size_gib(folder.trial_checkpoints(number)) for number in range(3)}

    def dropped(limit_gib: float | None) -> list[int]:
        by_number = dict(enumerate(records))
        return [number for number, _ in states_to_drop(sizes, by_number, folder, limit_gib)]

    assert [dropped(limit / 1024) for limit in (3, 2.5, 1, 0)] == [[], [1], [1, 2], [1, 2, 0]]
    assert dropped(None) == []


def test_a_trial_whose_state_had_to_go_has_ended_and_says_so(tmp_path, space):
    search = space.settings.search.model_copy(update={"paused_gib": 0.0})
    tight = dataclasses.replace(space, settings=space.settings.model_copy(update={"search": search}))
    sweep = Sweep(tmp_path / "tight", tight)
    sweep.has_files = True
    sweep.drive()
    trials = sweep.trials()
    assert len(trials) == TRIALS and not any(one.state is TrialState.PAUSED for one in trials)
    dropped = [one for one in trials if one.state is TrialState.PRUNED]
    assert dropped and all("its state of" in one.reason and "paused_gib" in one.reason for one in dropped)
    assert not any(sweep.folder.trial_checkpoints(one.number).exists() for one in dropped)
