"""Trials that take over what others trained: the ledger, the queue and the recorder drive trials whose weight
is a number that depends on each step before, so that a wrong state cannot give a right loss."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_drivers import Killed, drive_through

from sweeper.data import SequenceSet, TokenizedData, gather_facts, prepare
from sweeper.search import Ledger, TrialRecord, TrialState, make_stopper
from sweeper.space import Space, SweepFolder, load_space, next_memory_fallback
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.sweep.recovery import TrialRestart
from sweeper.sweep.sharing import Sharing
from sweeper.training import Job, Prepared, Progress, newest_checkpoint, state_folder
from sweeper.training.shared_steps import history_hash, training_plan

GRID = {
    "lr": [1e-3, 2e-3],
    "scheduler": ["constant", "wsd"],
    "epochs": [1, 2, 3],
    "warmup_steps": 2,
    "per_device_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "max_seq_len": 96,
}
SEARCH = {"trials": 12, "seed": 0, "sampler": "grid", "stopper": "none"}


def loss_of(weight: float, step: int, lr: float) -> float:
    """It falls, and the larger rate is the worse one."""
    return weight / 20 + 1 - step / 40 + (lr > 1e-3)


class Sweep:
    """One folder; drivers with one worker come and go."""

    def __init__(self, root: Path, space: Space, data: TokenizedData) -> None:
        self.space, self.folder, self.data = space, SweepFolder(root), data
        root.mkdir(parents=True)
        Ledger.create(self.folder.study_url, space)
        self.trained = 0
        """Steps in all."""
        self.out_of_memory_at: dict[int, int] = {}
        """Trial -> the step after which it does not fit."""
        self.diverges: Callable[[Job], bool] = lambda _: False
        self.begins: Callable[[int], None] = lambda _: None

    def drive(self, moment: Callable[[], None] = lambda: None) -> None:
        """One driver; ``moment`` comes wherever it may be killed."""
        ledger = Ledger.open(self.folder.study_url, self.space)
        stopper = make_stopper(self.space, pauses=ledger.pauses)
        sharing = Sharing(self.space, ledger, self.folder, (lambda: self.data) if ledger.shares else None)
        recorder = Recorder(
            self.space, ledger, self.folder, stopper, [], data_dir=self.folder.root, sharing=sharing
        )
        note = ledger.note

        def noted(number, **attributes):
            moment()
            note(number, **attributes)

        ledger.note = noted
        while not recorder.is_over() and (job := recorder.next_job()) is not None:
            moment()
            self.begins(job[0])
            self._train(recorder, *job, moment)
        recorder.conclude()
        ledger.close()

    def _train(self, recorder: Recorder, number: int, job: Job, moment: Callable[[], None]) -> None:
        recorder.started(number)
        plan = training_plan(job.config, SequenceSet.of(job.config, self.data.train), self.data.content)
        step, weight, not_forked = 0, 1.0, ""
        if job.resume_from is not None:
            step, weight, _ = json.loads((job.resume_from / "state").read_text())
        elif job.fork_from is not None:
            try:
                step, weight, history = json.loads((job.fork_from / "state").read_text())
                assert history == self._history(job, step, plan.steps)
            except OSError as error:
                not_forked = str(error)
        prepared = Prepared(
            total_steps=plan.steps, total_tokens=plan.tokens(plan.steps), ds_config={}, not_forked=not_forked
        )

        def write(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            history = self._history(job, step, plan.steps)
            (folder / "state").write_text(json.dumps([step, weight, history]))

        if job.evaluate_untrained:
            untrained = Progress(step=0, tokens=0, seconds=0.0, metrics={"eval/loss": 3.0}, time_s=0.0)
            moment()
            recorder.record(Outcome(number=number, prepared=prepared, progress=untrained))
        has_evaluated = job.resume_from is not None
        while True:
            if step in plan.evaluations and not has_evaluated:
                progress = Progress(
                    step=step,
                    tokens=plan.tokens(step),
                    seconds=float(step),
                    metrics={"eval/loss": loss_of(weight, step, job.config.training.lr)},
                    done=step == plan.steps,
                    time_s=float(self.trained),
                )
                moment()
                goes_on = recorder.record(Outcome(number=number, prepared=prepared, progress=progress))
                prepared = None
                moment()
                if not goes_on:
                    return
                before = newest_checkpoint(job.checkpoints)
                write(state_folder(job.checkpoints, step))
                if before is not None:
                    shutil.rmtree(before)
                moment()
                if job.pause_file.exists():
                    recorder.record(Outcome(number=number, paused=True))
                    moment()
                    return
            if self.diverges(job) and step == 9:
                recorder.record(Outcome(number=number, failure="diverged at step 9", diverged=True))
                return
            if self.out_of_memory_at.get(number) == step:
                del self.out_of_memory_at[number]
                smaller = next_memory_fallback(job.config)
                setback = TrialRestart(reason="too large", out_of_memory=True, config=smaller)
                recorder.record(Outcome(number=number, setback=setback))
                job = Job(**{**vars(job), "config": smaller, "leave_at": (), "fork_from": None})
            lr = job.config.training.lr * plan.multipliers[step]
            split = job.config.training.per_device_batch_size
            weight = 1.5 + math.sin(weight * (1 + 100 * lr) + step / split)
            step, has_evaluated = step + 1, False
            self.trained += 1
            if step in job.leave_at:
                write(state_folder(job.left_states, step))
                moment()

    def _history(self, job: Job, step: int, steps: int) -> str:
        return history_hash(job.config, self.data.content, step=step, total_steps=steps)

    def trials(self) -> list[TrialRecord]:
        return Ledger.open(self.folder.study_url, self.space).trials()

    def ends(self) -> list[tuple]:
        return [
            (
                one.number, one.state, one.values, one.chance, one.same_as, one.forked_from, one.saved_tokens,
                [(e.tokens, e.step, e.metrics) for e in one.evaluations],
            )
            for one in self.trials()
        ]  # fmt: skip

    def left(self) -> list[Path]:
        return list(self.folder.trials_dir.glob("*/left/*"))


@pytest.fixture(scope="module")
def make(tmp_path_factory, write_space, few_rows):
    made = {}

    def sweep(root: Path, *, share: bool = True, training=GRID, search=SEARCH, **changes) -> Sweep:
        folder = tmp_path_factory.mktemp("space")
        search = {**search, "share": share}
        file = write_space(folder, data_path=str(few_rows), training=training, search=search, **changes)
        space = load_space(file, gather=gather_facts)
        if "data" not in made:
            made["data"] = prepare(space.close(space.default_values()), tmp_path_factory.mktemp("cache"))
        return Sweep(root / f"share-{share}", space, made["data"])

    return sweep


@pytest.fixture(scope="module")
def pair(make, tmp_path_factory) -> tuple[Sweep, Sweep]:
    """The grid with and without sharing."""
    root = tmp_path_factory.mktemp("pair")
    sweeps = make(root), make(root, share=False)
    for one in sweeps:
        one.drive()
    return sweeps


def assert_part_of(shared: list[TrialRecord], alone: list[TrialRecord]) -> None:
    """Each trial has the objective of one by itself, and no evaluation that is another."""
    assert [one.values for one in shared] == [one.values for one in alone]
    for mine, whole in zip(shared, alone, strict=True):
        assert (mine.state, mine.value) == (whole.state, whole.value)
        found = {one.tokens: (one.step, one.metrics) for one in whole.evaluations}
        for one in mine.evaluations:
            assert (one.step, one.metrics) == found[one.tokens]


def test_more_than_half_of_the_grid_is_not_trained_twice_and_its_values_are_the_same(pair):
    shared, alone = pair
    assert_part_of(shared.trials(), alone.trials())
    assert shared.trained < 0.4 * alone.trained
    tokens = sum(one.attributes["total_tokens"] for one in shared.trials())
    saved = sum(one.saved_tokens for one in shared.trials())
    assert (
        saved / tokens == pytest.approx(1 - shared.trained / alone.trained, abs=0.02) and saved > 0.6 * tokens
    )
    assert shared.left() == []


def test_evaluations_before_the_fork_are_those_of_whoever_made_them_at_the_same_step(pair):
    shared, alone = pair
    forks = [one for one in shared.trials() if one.forked_from is not None]
    taken = [e for one in forks for e in one.evaluations if e.tokens < one.saved_tokens]
    assert taken and all(one.seconds == 0 for one in taken)
    assert alone.left() == [] and not any(one.saved_tokens for one in alone.trials())


@pytest.mark.parametrize("seed", range(2))
def test_a_sweep_that_is_killed_ends_in_the_trials_of_an_undisturbed_one(make, pair, tmp_path, seed):
    sweep = make(tmp_path)
    drive_through(sweep.drive, kills=8, odds=0.15, seed=seed)
    assert sweep.ends() == pair[0].ends()


@pytest.mark.parametrize("stopper", ["auto", "asha"])
def test_trials_that_pause_or_are_stopped_are_sources_and_kills_change_nothing(make, tmp_path, stopper):
    search = {"trials": 12, "seed": 0, "sampler": "grid", "stopper": stopper}
    undisturbed, killed = (
        make(tmp_path / name, search=search, objective={"evaluations": 6}) for name in ("whole", "killed")
    )
    undisturbed.drive()
    drive_through(killed.drive, kills=8, odds=0.15, seed=3)
    assert killed.ends() == undisturbed.ends()
    trials = killed.trials()
    sources = {trials[one.forked_from].state for one in trials if one.forked_from is not None}
    if stopper == "auto":
        assert TrialState.PAUSED in sources
    else:
        assert any(one.forked_from is not None and one.state is TrialState.PRUNED for one in trials)


def test_a_state_that_is_gone_costs_its_saving_and_nothing_else(make, pair, tmp_path):
    sweep, lost = make(tmp_path), []

    def lose(number: int) -> None:
        fork = sweep.trials()[number].attributes["fork"]
        if fork and not lost:
            lost.append(number)
            shutil.rmtree(sweep.folder.trial_left(fork["trial"]))

    sweep.begins = lose
    sweep.drive()
    assert_part_of(sweep.trials(), pair[1].trials())
    record = sweep.trials()[lost[0]]
    assert (record.forked_from, record.saved_tokens) == (None, 0)
    assert "begins at its start, with the same result" in record.attributes["warnings"][0]


def test_a_state_that_is_gone_when_the_next_driver_comes_is_told(make, pair, tmp_path):
    sweep, killed = make(tmp_path), []

    def kill(number: int) -> None:
        if sweep.trials()[number].forked_from is not None and not killed:
            killed.append(number)
            raise Killed

    sweep.begins = kill
    with pytest.raises(Killed):
        sweep.drive()
    assert sweep.trials()[killed[0]].saved_tokens > 0  # in the ledger before it has begun
    for state in sweep.left():
        shutil.rmtree(state)
    sweep.drive()
    assert_part_of(sweep.trials(), pair[1].trials())
    record = sweep.trials()[killed[0]]
    assert (record.forked_from, record.saved_tokens) == (None, 0) and record.attributes["warnings"]


TWINS = {**GRID, "lr": 1e-3, "epochs": 1, "decay_ratio": [0.1, 0.2], "final_lr_ratio": [0.0, 0.1]}


def test_a_configuration_that_is_only_written_otherwise_is_answered_at_once(make, tmp_path):
    shared, alone = (make(tmp_path, share=share, training=TWINS) for share in (True, False))
    for one in (shared, alone):
        one.drive()
    assert_part_of(shared.trials(), alone.trials())
    twins = [one for one in shared.trials() if one.same_as is not None]
    constant = [one for one in shared.trials() if one.values["scheduler"] == "constant"]
    assert len(constant) == 4 and len(twins) == 3
    for one in twins:
        assert (one.state, one.reason) == (TrialState.COMPLETE, f"same as trial {one.same_as}")
        assert one.saved_tokens == one.attributes["total_tokens"] == one.evaluations[-1].tokens
        assert one.same_as < one.number and len(one.evaluations) == 3
    assert shared.left() == []


def test_what_has_diverged_is_not_tried_again_and_the_sampler_is_told(make, tmp_path):
    sweep = make(tmp_path, training={**TWINS, "scheduler": ["constant", "wsd"]})
    sweep.diverges = lambda job: job.config.training.scheduler == "constant"
    sweep.drive()
    failed = [one for one in sweep.trials() if one.values["scheduler"] == "constant"]
    assert all(one.state is TrialState.FAIL and one.attributes["diverged"] for one in failed)
    assert sum(one.same_as is not None for one in failed) == 3


def test_a_trial_that_was_made_lighter_on_the_way_is_nobodys_source(make, tmp_path):
    sweep = make(tmp_path)
    sweep.out_of_memory_at = {1: 5}
    sweep.drive()
    trials = sweep.trials()
    assert trials[1].attributes["setbacks"]
    assert not any(1 in (one.same_as, one.forked_from) for one in trials)
    lighter = trials[2:]
    assert {one.attributes["config"]["training"]["per_device_batch_size"] for one in lighter} == {4}
    assert not any(one.forked_from == 0 for one in lighter)  # it was computed with the batch in one piece
    assert any(one.forked_from is not None for one in lighter)


def test_states_for_others_keep_within_their_part_of_the_disk(make, pair, tmp_path):
    sweep = make(tmp_path, search={**SEARCH, "share_gib": 0.0})
    sweep.drive()
    assert_part_of(sweep.trials(), pair[1].trials())
    assert not any(one.saved_tokens for one in sweep.trials()) and sweep.left() == []


def test_a_sweep_of_another_version_and_one_that_is_told_so_share_nothing(make, pair, tmp_path):
    sweep = make(tmp_path)
    ledger = Ledger.open(sweep.folder.study_url, sweep.space)
    assert ledger.shares
    assert not Ledger.open(pair[1].folder.study_url, pair[1].space).shares
    with sqlite3.connect(sweep.folder.study_file) as database:
        database.execute("DELETE FROM study_user_attributes WHERE key = 'shares'")
    assert not Ledger.open(sweep.folder.study_url, sweep.space).shares
    sweep.drive()
    assert sweep.trained == pair[1].trained


@pytest.mark.parametrize(
    ("changes", "possible"),
    [
        ({}, True),
        ({"lr": {"log_uniform": [1e-4, 1e-2]}}, False),
        ({"decay_ratio": {"uniform": [0.1, 0.4]}}, True),
        ({"scheduler": "cosine", "epochs": 1}, False),
    ],
)
def test_where_a_continuous_value_parts_all_trials_no_state_is_left(make, tmp_path, changes, possible):
    search = {**SEARCH, "sampler": "random", "trials": 4}
    sweep = make(tmp_path, training={**GRID, **changes}, search=search)
    sharing = Sharing(sweep.space, None, sweep.folder, rows=None)
    assert sharing.is_possible is possible
    if changes:
        sweep.drive()
        assert possible or not list(sweep.folder.trials_dir.glob("*/left"))
        assert all(one.state is TrialState.COMPLETE for one in sweep.trials())


def test_a_trial_that_is_judged_by_its_best_evaluation_begins_at_its_start(make, tmp_path):
    sweep = make(
        tmp_path,
        training={**TWINS, "epochs": [1, 2]},
        search={**SEARCH, "trials": 16},
        objective={"at": "best"},
    )
    sweep.drive()
    assert not any(one.forked_from is not None for one in sweep.trials())
    assert sum(one.same_as is not None for one in sweep.trials()) == 6


def test_states_stay_for_trials_that_a_killed_driver_had_not_decided_on(make, pair, tmp_path):
    """Two trials were asked for side by side, and the driver was killed before either of them began."""
    sweep = make(tmp_path, search={**SEARCH, "trials": 4})

    def stop(number: int) -> None:
        if number == 2:
            raise Killed

    sweep.begins = stop
    with pytest.raises(Killed):
        sweep.drive()
    assert sweep.left()
    ledger = Ledger.open(sweep.folder.study_url, sweep.space)
    fourth = ledger.ask()
    sharing = Sharing(sweep.space, ledger, sweep.folder, lambda: sweep.data)
    asked = [one for one in sweep.trials() if one.number <= 3]
    sharing.tidy(asked)
    config = sweep.space.close(fourth.values)
    start = sharing.begin(fourth, config, asked, may_fork=True)
    whole = Sharing(pair[0].space, ledger, sweep.folder, lambda: sweep.data)
    assert start.fork_from is not None and start.fork_from.is_dir()
    assert whole.begin(ledger.trial(3), config, asked, may_fork=False).fork_from == start.fork_from
