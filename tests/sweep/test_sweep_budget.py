"""A budget is kept within 5 %: nothing begins that cannot end in time, and nothing is cut without reason.

Trials here take what a fake clock says; a whole sweep in real time is in ``test_drive_budget_sweep``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.autotune import Speed
from sweeper.data import LengthSample, gather_facts
from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState, make_stopper
from sweeper.space import SweepFolder, load_space, size_of
from sweeper.sweep.budget import TOLERANCE, Forecast
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.training import STARTUP, Job, Prepared, Progress

ROW_TOKENS, COLD_S, WARM_S, EVALUATION_S = 10, 12.0, 1.0, 0.5


@dataclass
class Place:
    """A worker that trains on the fake clock: ``pace`` seconds for a row, and ``slower`` after a while."""

    now: float
    starts: float = COLD_S
    job: Job | None = None
    number: int = -1
    outcomes: list[tuple[float, Outcome]] = field(default_factory=list)
    """What the running trial will say, and how long it takes to it."""


class World:
    """A recorder whose trials run on a clock of its own."""

    def __init__(self, folder, space, *, pace: float, slow_from: float = 1e9, slow: float = 1.0, **known):
        self.now, self.pace, self.slow_from, self.slow = 0.0, pace, slow_from, slow
        self.space, self.folder = space, SweepFolder(folder)
        self.folder.root.mkdir(parents=True)
        self.ledger = Ledger.create(self.folder.study_url, space)
        self.recorder = Recorder(
            space,
            self.ledger,
            self.folder,
            make_stopper(space),
            [],
            data_dir=folder,
            clock=lambda: self.now,
            **known,
        )
        self.places = [Place(now=0.0) for _ in range(space.closed["resources.max_concurrent"])]

    def run(self) -> None:
        """Events in the order of time until no trial runs and none begins."""
        exhausted = False
        while True:
            for place in self.places:
                if not place.outcomes and not exhausted and not self.recorder.is_over():
                    place.now = max(place.now, self.now)
                    exhausted = not self._begin(place)
            busy = [place for place in self.places if place.outcomes]
            if not busy:
                return
            self._step(min(busy, key=lambda place: place.now + place.outcomes[0][0]))

    def _begin(self, place: Place) -> bool:
        job = self.recorder.next_job()
        if job is None:
            return False
        place.number, place.job = job
        size = size_of(place.job.config, self.space.facts.train_rows)
        evaluations = min(place.job.config.objective.evaluations, size.steps)
        began, trained_s = place.now, 0.0
        at, done = place.now, 0
        for index in range(1, evaluations + 1):
            rows = size.rows * index // evaluations - done
            speed = self.pace * (self.slow if at > self.slow_from else 1.0)
            trained_s, done = rows * speed, done + rows
            took = trained_s + EVALUATION_S + (place.starts if index == 1 else 0.0)
            at += took
            metrics = {"eval/loss": 3.0 - index / 10, "perf/tokens_per_s": ROW_TOKENS / speed}
            metrics |= {STARTUP: place.starts} if index == 1 else {}
            progress = Progress(
                step=index,
                tokens=done * ROW_TOKENS,
                seconds=at - began,
                metrics=metrics,
                done=index == evaluations,
                time_s=at,
            )
            first = index == 1
            prepared = (
                Prepared(total_steps=size.steps, total_tokens=size.rows * ROW_TOKENS, ds_config={})
                if first
                else None
            )
            place.outcomes.append((took, Outcome(number=place.number, prepared=prepared, progress=progress)))
        place.starts = WARM_S
        return True

    def _step(self, place: Place) -> None:
        took, outcome = place.outcomes.pop(0)
        until = place.now + took
        while self.now < until:
            self.now = min(until, self.now + 0.25)
            self.recorder.count_time()
            if self.folder.stop_file.exists() and self.now < until:
                self.now += 1.0  # until the worker hears of it
                paused = Progress(step=0, tokens=1, seconds=0.0, metrics={}, paused=True)
                outcome = Outcome(number=place.number, prepared=outcome.prepared, progress=paused)
                break
        place.now = self.now
        if not self.recorder.record(outcome):
            place.outcomes = []

    def end(self) -> str:
        self.recorder.conclude()
        return str(self.ledger.sweep_attributes()["ended"])


@pytest.fixture
def world(tmp_path_factory, write_space):
    def make(
        budget_s: float, *, places: int = 1, search: dict[str, Any] | None = None, **known: Any
    ) -> World:
        folder = tmp_path_factory.mktemp("world")
        file = write_space(
            folder,
            training__epochs=[1, 2],
            search={
                "trials": 40,
                "stopper": "none",
                **({} if search else {"time_budget": f"{budget_s:.2f}s"}),
                **(search or {}),
            },
            resources={"max_concurrent": places, "price_per_gpu_hour": 3600.0},
        )
        return World(folder / "sweep", load_space(file, gather=gather_facts), **known)

    return make


def cut(world: World) -> list[int]:
    return [one.number for one in world.ledger.trials() if one.state is TrialState.PRUNED]


@pytest.mark.parametrize(("budget_s", "pace", "places"), [(100, 0.4, 1), (170, 0.31, 1), (130, 0.33, 2)])
def test_on_a_steady_machine_no_trial_is_cut_and_the_budget_is_not_exceeded(world, budget_s, pace, places):
    """96 rows and up to 2 epochs: a trial takes at most 192 x 0.4 + 12 + 1.5 s, and one always fits."""
    known = world(budget_s, places=places, pace=pace)
    known.run()
    assert cut(known) == []
    assert known.now <= budget_s
    trials = known.ledger.trials()
    if len(trials) < 40:  # what is left is too little for the trial that would have been next
        longest_s = 192 * pace + 3 * EVALUATION_S + WARM_S
        begun_last = max(place.now for place in known.places)
        assert budget_s - begun_last < longest_s + COLD_S
        assert f"{len(trials)} of 40 trials were run" in known.end()


@pytest.mark.parametrize(
    ("budget_s", "pace", "slow", "places"),
    [(100, 0.2, 1.2, 1), (150, 0.2, 20, 1), (120, 0.2, 3, 2), (200, 0.3, 1.5, 2)],
)
def test_on_a_machine_that_becomes_slower_the_budget_is_kept_within_the_tolerance(
    world, budget_s, pace, slow, places
):
    known = world(budget_s, places=places, pace=pace, slow_from=budget_s / 2, slow=slow)
    known.run()
    assert known.now <= budget_s * (1 + TOLERANCE) + 0.5
    for one in known.ledger.trials():
        assert one.state in (TrialState.COMPLETE, TrialState.PRUNED)
        if one.state is TrialState.PRUNED:
            assert one.reason == "the time budget is spent"
    assert "the time budget" in known.end() or known.end().startswith("all 40")


def test_a_trial_that_does_not_fit_is_neither_begun_nor_lost(world):
    known = world(100, pace=0.4)  # the default takes 40 or 78 s, the next no less than 40
    known.run()
    begun = known.ledger.trials()
    assert [one.state for one in begun] == [TrialState.COMPLETE] * len(begun)
    assert known.recorder.is_over()
    follower = known.ledger.ask()  # a larger budget begins with what did not fit
    assert follower.number == len(begun)


def test_the_pause_of_a_spent_budget_ends_a_trial_with_its_last_evaluation_as_value(world):
    known = world(60, pace=0.1, slow_from=20, slow=50)
    known.run()
    (trial,) = known.ledger.trials()
    assert (trial.state, trial.reason) == (TrialState.PRUNED, "the time budget is spent")
    assert trial.value == trial.evaluations[-1].metrics["eval/loss"]
    assert 60 <= known.now <= 63.5
    assert known.end() == "the time budget (1m) is spent: 1 of 40 trials were run"


def test_a_pause_that_somebody_asked_for_is_no_end_by_the_budget(world):
    known = world(60, pace=0.1)
    number, _ = known.recorder.next_job()
    known.now = 62.9
    known.recorder.count_time()
    known.recorder.ask_to_stop()
    paused = Progress(step=1, tokens=10, seconds=1.0, metrics={}, paused=True)
    assert not known.recorder.record(Outcome(number=number, progress=paused))
    assert known.ledger.trial(number).state is TrialState.RUNNING


def test_a_cost_budget_is_kept_like_a_time_budget_and_is_named(world):
    """The machine costs 1 a second."""
    known = world(0, pace=0.2, search={"cost_budget": 150})
    known.run()
    assert 60 < known.now <= 150
    assert cut(known) == []
    assert "the cost budget (150) is spent" in known.end()
    slow = world(0, pace=5.0, search={"cost_budget": 150})
    slow.run()
    assert {one.reason for one in slow.ledger.trials()} == {"the cost budget is spent"}
    assert slow.now <= 150 * (1 + TOLERANCE) + 0.5


def test_a_measured_speed_tells_that_not_even_one_trial_fits_and_it_begins_all_the_same(world):
    speed = Speed(
        tokens_per_s=10.0, spread=0.0, evaluated_tokens_per_s=100.0, cold_start_s=12.0, warm_start_s=1.0
    )
    ten = np.full(8, ROW_TOKENS)
    sample = LengthSample(
        lengths=ten, completion_tokens=ten, eval_lengths=ten, train_rows=96, eval_rows=24, max_seq_len=96
    )
    known = world(60, pace=1.0, speed=speed, sample=sample)
    known.run()
    (trial,) = known.ledger.trials()
    assert trial.state is TrialState.PRUNED
    assert "more than the time budget (1m) allows" in trial.attributes["warnings"][0]


def test_a_sweep_that_is_not_ended_by_its_budget_says_so(world):
    known = world(0, search={"trials": 2, "time_budget": "1h"}, pace=0.05)
    known.run()
    assert known.end() == "all 2 trials were run"


@pytest.fixture(scope="module")
def forecast_space(tmp_path_factory, write_space):
    file = write_space(tmp_path_factory.mktemp("space"), training__epochs=[1, 2])
    return load_space(file, gather=gather_facts)


def record_of(space, number: int, epochs: int, *, pace: float, rest_s: float, start_s: float) -> TrialRecord:
    """A whole trial of this speed, as the ledger has it."""
    values = {"lr": 1e-3, "scheduler": "linear", "gradient_accumulation_steps": 1, "epochs": epochs}
    config = space.close(values)
    tokens, seconds, evaluations = 96 * epochs * ROW_TOKENS, start_s, []
    for index in (1, 2, 3):
        seconds += tokens / 3 * pace + rest_s
        metrics = {"eval/loss": 1.0, "perf/tokens_per_s": 1 / pace}
        done = tokens * index // 3
        evaluations.append(
            Evaluation(tokens=done, step=index, seconds=seconds, metrics=metrics, time_s=seconds)
        )
    attributes = {"startup_s": start_s, "total_tokens": tokens, "config": config.model_dump(mode="json")}
    return TrialRecord(
        number=number,
        state=TrialState.COMPLETE,
        values=values,
        value=1.0,
        evaluations=tuple(evaluations),
        attributes=attributes,
    )


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    pace=st.floats(1e-4, 1.0),
    rest_s=st.floats(0, 100),
    start_s=st.floats(0, 100),
    seen=st.lists(st.sampled_from([1, 2]), min_size=2, max_size=4),
    epochs=st.sampled_from([1, 2]),
)
def test_trials_of_any_length_tell_how_long_one_of_another_length_takes(
    forecast_space, pace, rest_s, start_s, seen, epochs
):
    speeds = {"pace": pace, "rest_s": rest_s, "start_s": start_s}
    records = [record_of(forecast_space, n, one, **speeds) for n, one in enumerate(seen)]
    wanted = record_of(forecast_space, 9, epochs, **speeds)
    config = forecast_space.close(wanted.values)
    forecast = Forecast(forecast_space, None, None)
    assert forecast.trial_s(config, records) == pytest.approx(wanted.evaluations[-1].seconds, rel=1e-3)
    assert forecast.trial_s(config, []) is None
