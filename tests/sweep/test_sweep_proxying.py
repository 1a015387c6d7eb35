"""A search on a proxy and its best on the real thing: ledger, queue and recorder drive trials whose losses
are a formula."""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_drivers import drive_through

from sweeper.data import gather_facts
from sweeper.history import HistoryFile
from sweeper.search import (
    Evaluation,
    Ledger,
    TrialRecord,
    TrialState,
    asked_config,
    confirmation_of,
    eligible,
    make_stopper,
    searched,
    transfer_of,
)
from sweeper.space import ProxyModel, Space, SweepFolder, load_space
from sweeper.sweep.budget import Forecast
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.past_sweeps import HistoryWriter
from sweeper.sweep.recorder import Recorder
from sweeper.training import STARTUP, Prepared, Progress

TRIALS, TOP, EVALUATIONS, SHARE = 7, 2, 4, 0.25
TOKENS = 1600
TRIAL_S = 16.0
"""Of the real thing; the proxy takes its share of both."""


def loss_of(lr: float, seed: int, position: float, on_proxy: bool) -> float:
    """Best near 3e-2 on both; the proxy ends higher, and is a little off."""
    noise = random.Random(f"{lr} {seed} {on_proxy}").gauss(0, 0.05)
    return (3 if on_proxy else 2) + 0.3 * abs(math.log10(lr) + 1.5) + noise + 2 * (1 - position)


class Sweep:
    """One folder; drivers come and go. What a trial takes it takes on a clock of its own."""

    def __init__(self, root: Path, space: Space) -> None:
        self.space, self.folder, self.now = space, SweepFolder(root), 0.0
        root.mkdir(parents=True)
        ledger = Ledger.create(self.folder.study_url, space)
        ledger.note_sweep(id="own", started_s=0.0)
        self.begun: list[tuple[int, Path, bool]] = []
        """Trial, its rows, and whether its model is kept, as they got their places."""
        self.fails: Callable[[float], bool] = lambda _: False
        """On the real thing, by lr."""

    def drive(self, moment: Callable[[], None] = lambda: None) -> Sweep:
        """One driver with one worker; ``moment`` comes wherever it may be killed."""
        ledger = Ledger.open(self.folder.study_url, self.space)
        recorder = Recorder(
            self.space,
            ledger,
            self.folder,
            make_stopper(self.space, pauses=ledger.pauses),
            [HistoryWriter(self.space, ledger, print)],
            data_dir=self.folder.root / "real",
            proxy_data_dir=self.folder.root / "small",
            clock=lambda: self.now,
        )
        while not recorder.is_over() and (found := recorder.next_job()) is not None:
            moment()
            self._train(recorder, *found, moment)
        recorder.conclude()
        ledger.close()
        return self

    def _train(self, recorder: Recorder, number: int, job, moment) -> None:
        recorder.started(number)
        self.begun.append((number, job.data_dir, job.model_folder is not None))
        training, on_proxy = job.config.training, job.data_dir.name == "small"
        share = SHARE if on_proxy else 1.0
        total = int(TOKENS * share)
        lr = training.lr / SHARE**-0.32 if on_proxy else training.lr
        if not on_proxy and self.fails(lr):
            recorder.record(Outcome(number=number, failure="diverged at step 3", diverged=True))
            return
        prepared = Prepared(total_steps=EVALUATIONS, total_tokens=total, ds_config={})
        begun_at = len(recorder._records[number].evaluations)
        for index in range(begun_at + 1, EVALUATIONS + 1):
            self.now += TRIAL_S * share / EVALUATIONS
            progress = Progress(
                step=index,
                tokens=index * total // EVALUATIONS,
                seconds=index * TRIAL_S * share / EVALUATIONS,
                metrics={
                    "eval/loss": loss_of(lr, training.seed, index / EVALUATIONS, on_proxy),
                    STARTUP: 0.0,
                },
                done=index == EVALUATIONS,
                time_s=self.now,
            )
            moment()
            goes_on = recorder.record(Outcome(number=number, prepared=prepared, progress=progress))
            prepared = None
            moment()
            if not goes_on:
                return
            if job.pause_file.exists():
                recorder.record(Outcome(number=number, paused=True))
                return

    def ledger(self) -> Ledger:
        return Ledger.open(self.folder.study_url, self.space)

    def trials(self) -> list[TrialRecord]:
        return self.ledger().trials()

    def ends(self) -> list[tuple]:
        return [
            (one.number, one.state, one.values, one.is_proxy, one.real_of, one.seed, one.value)
            for one in self.trials()
        ]


def make_space(folder: Path, write_space, rows: Path, **search) -> Space:
    file = write_space(
        folder,
        data_path=str(rows),
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
            "proxy": {"rows": SHARE, "top": TOP},
            **search,
        },
        objective={"evaluations": EVALUATIONS},
    )
    return load_space(file, gather=gather_facts)


def changed(space: Space, **changes) -> Space:
    search = space.settings.search.model_copy(update=changes)
    return dataclasses.replace(space, settings=space.settings.model_copy(update={"search": search}))


@pytest.fixture(scope="module")
def space(tmp_path_factory, write_space, few_rows) -> Space:
    return make_space(tmp_path_factory.mktemp("proxying"), write_space, few_rows)


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("history") / "history.sqlite3"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, space, history) -> Sweep:
    root = tmp_path_factory.mktemp("sweeps") / "undisturbed"
    return Sweep(root, changed(space, history=str(history))).drive()


def test_all_trials_are_on_the_proxy_and_then_the_best_and_the_rules_of_thumb_on_the_real_thing(undisturbed):
    trials = undisturbed.trials()
    small, real = trials[:TRIALS], trials[TRIALS:]
    assert all(one.is_proxy and one.state is TrialState.COMPLETE for one in small)
    best = [one.number for one in sorted(small, key=lambda one: one.value)[:TOP]]
    assert 0 not in best and [one.real_of for one in real] == [*best, 0]
    assert [one.is_default for one in real] == [False, False, True]
    assert all(one.values == trials[one.real_of].values for one in real)
    assert undisturbed.ledger().best().number == min(real, key=lambda one: one.value).number
    rows = [(path.name, kept) for _, path, kept in undisturbed.begun]
    assert rows == [("small", False)] * TRIALS + [("real", True)] * (TOP + 1)


def test_a_trial_on_the_proxy_trains_on_fewer_rows_with_a_larger_lr_and_all_else_is_the_same(
    undisturbed, space
):
    trials = undisturbed.trials()
    for real in trials[TRIALS:]:
        small = trials[real.real_of].attributes["config"]
        noted = real.attributes["config"]
        assert noted == asked_config(space, real).model_dump(mode="json")
        assert small["training"]["lr"] == pytest.approx(noted["training"]["lr"] * SHARE**-0.32)
        assert [one["weight"] for one in small["data_path"]] == [SHARE]
        assert {**small, "training": None, "data_path": None} == {
            **noted,
            "training": None,
            "data_path": None,
        }


@pytest.mark.parametrize(("sampler", "stopper"), [("random", "none"), ("auto", "auto"), ("tpe", "auto")])
def test_a_sweep_that_is_killed_again_and_again_ends_in_the_same_trials(
    tmp_path, write_space, few_rows, sampler, stopper
):
    confirm = {"top": 2, "seeds": 2}
    space = make_space(tmp_path, write_space, few_rows, sampler=sampler, stopper=stopper, confirm=confirm)
    whole = Sweep(tmp_path / "whole", space).drive()
    killed = Sweep(tmp_path / "killed", space)
    drive_through(killed.drive, kills=8, odds=0.2)
    assert killed.ends() == whole.ends()
    assert sum(one.real_of is not None for one in whole.trials()) == len(eligible(whole.trials())) >= TOP


def test_confirmation_is_of_what_trained_on_the_real_thing(tmp_path, space):
    confirm = space.settings.search.confirm.model_copy(update={"top": 2, "seeds": 2})
    sweep = Sweep(tmp_path / "confirmed", changed(space, confirm=confirm)).drive()
    trials = sweep.trials()
    real = {one.number for one in eligible(trials)}
    runs = [one for one in trials if one.replicate_of is not None]
    assert len(runs) == 4 and {one.replicate_of for one in runs} <= real
    assert min(one.number for one in runs) > max(real)
    found = confirmation_of(sweep.space, trials)
    assert found.is_over and sweep.ledger().best().number == found.chosen
    assert all(path.name == "real" for number, path, _ in sweep.begun if number >= min(real))


def test_more_trials_go_on_with_the_search_and_use_what_is_there(tmp_path, space, undisturbed):
    root = shutil.copytree(undisturbed.folder.root, tmp_path / "longer")
    longer = Sweep.__new__(Sweep)
    longer.__dict__ |= undisturbed.__dict__ | {"folder": SweepFolder(root), "begun": []}
    longer.space = changed(space, trials=TRIALS + 4)
    longer.drive()
    whole = Sweep(tmp_path / "whole", longer.space).drive()
    values = [[one.values for one in searched(sweep.trials())] for sweep in (longer, whole)]
    assert values[0] == values[1] and len(values[0]) == TRIALS + 4
    assert longer.ends()[: len(undisturbed.ends())] == undisturbed.ends()
    of = [one.real_of for one in eligible(longer.trials())]
    assert len(of) == len(set(of))
    assert longer.ledger().best().values == whole.ledger().best().values


def test_one_that_fails_on_the_real_thing_is_replaced_by_the_next(tmp_path, space, undisturbed):
    best = min(undisturbed.trials()[:TRIALS], key=lambda one: one.value)
    sweep = Sweep(tmp_path / "failing", space)
    sweep.fails = lambda lr: math.isclose(lr, best.values["lr"])
    trials = sweep.drive().trials()
    real = [one for one in trials if one.real_of is not None]
    assert [one.state for one in real] == [TrialState.FAIL, *[TrialState.COMPLETE] * (TOP + 1)]
    assert real[0].real_of == best.number and real[-1].is_default
    assert transfer_of(space, trials).place_of_best is None


def test_a_budget_leaves_time_for_the_real_thing(tmp_path, space):
    """A trial takes 4 s on the proxy and 16 on the real thing: of 120 s those of three real ones are kept."""
    short = changed(space, trials=40, time_budget_s=120.0)
    sweep = Sweep(tmp_path / "short", short).drive()
    trials = sweep.trials()
    real = [one for one in trials if one.real_of is not None]
    assert [one.state for one in real] == [TrialState.COMPLETE] * (TOP + 1)
    assert 13 <= len(searched(trials)) <= 18 and sweep.now <= 120
    assert "the search's part of the time budget" in sweep.ledger().sweep_attributes()["ended"]


def test_history_has_the_small_runs_as_what_they_are_apart_from_the_real_ones(undisturbed, history):
    real, small = sorted(HistoryFile(history).sweeps(), key=lambda one: one.facts.id)
    assert (real.facts.id, small.facts.id) == ("own", "proxy-own")
    assert small.facts.features.train_rows == round(SHARE * real.facts.features.train_rows)
    assert (len(small.trials), len(real.trials)) == (TRIALS, TOP + 1)
    by_number = {one.number: one for one in small.trials}
    for one in real.trials:
        of = undisturbed.trials()[one.number].real_of
        ratio = by_number[of].config["training"]["lr"] / one.config["training"]["lr"]
        assert ratio == pytest.approx(SHARE**-0.32)


def test_trials_with_a_smaller_model_tell_of_the_real_ones_seconds_by_parameters_until_these_do(space):
    """A quarter of the parameters: four seconds of the real thing for each that training took."""
    proxy = space.settings.search.proxy.model_copy(update={"rows": None, "model_path": "small"})
    sizes = dataclasses.replace(space.facts.sizes, parameters=space.facts.sizes.parameters // 4)
    facts = dataclasses.replace(space.facts, proxy_model=ProxyModel(sizes=sizes))
    forecast = Forecast(dataclasses.replace(changed(space, proxy=proxy), facts=facts), None, None)

    def record(number: int, second: float, **phase) -> TrialRecord:
        evaluations = tuple(
            Evaluation(tokens=400 * n, step=n, seconds=second * n, metrics={"eval/loss": 1.0})
            for n in range(1, EVALUATIONS + 1)
        )
        noted = {"total_tokens": TOKENS, "startup_s": 0.0}
        return TrialRecord(
            number=number,
            state=TrialState.COMPLETE,
            values={"lr": 1e-3},
            value=1.0,
            evaluations=evaluations,
            attributes=noted,
            **phase,
        )

    small, real = record(0, 1.0, is_proxy=True), record(1, 5.0, real_of=0)
    config = space.close({"lr": 1e-3})
    assert forecast.trial_s(config, [small], on_proxy=True) == pytest.approx(EVALUATIONS)
    assert forecast.trial_s(config, [small]) == pytest.approx(4 * EVALUATIONS, rel=1e-3)
    assert forecast.trial_s(config, [small, real]) == pytest.approx(5 * EVALUATIONS)
    assert forecast.trial_s(config, [small, real], on_proxy=True) == pytest.approx(EVALUATIONS)
