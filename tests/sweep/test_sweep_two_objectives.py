"""Two objectives: what pauses, and how a sweep ends that is killed, with seconds that are a formula."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_drivers import drive_through
from test_sweep_pausing import Sweep, loss_of

from sweeper.data import gather_facts
from sweeper.search import TrialState, front_of
from sweeper.space import load_space

TRIALS = 8


class Traded(Sweep):
    """One accumulation is four times as fast as the other, and worse whatever the rate."""

    def loss(self, values: dict, fraction: float) -> float:
        return loss_of(values, fraction) + 3.0 * (values["gradient_accumulation_steps"] == 2)

    def pace_s(self, values: dict) -> float:
        return 1.0 if values["gradient_accumulation_steps"] == 2 else 4.0

    def front(self) -> list[int]:
        """Of all trials, by what each of them would have come to."""
        ends = [(self.pace_s(dict(one.values)), self.loss(dict(one.values), 1.0)) for one in self.trials()]
        return [
            number
            for number, (pace, loss) in enumerate(ends)
            if not any(p <= pace and ended < loss for p, ended in ends)
        ]


def driven(root: Path, write_space, **changes) -> Traded:
    root.mkdir()
    file = write_space(
        root,
        training__lr={"log_uniform": [1e-6, 1e-2]},
        training__scheduler=["constant", "cosine"],
        search={"trials": TRIALS, "seed": 3},
        **changes,
    )
    sweep = Traded(root / "sweep", load_space(file, gather=gather_facts))
    sweep.drive()
    return sweep


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, write_space) -> Traded:
    objective = {"evaluations": 8, "also": "gpu_seconds"}
    return driven(tmp_path_factory.mktemp("two") / "sweep", write_space, objective=objective)


def of_state(sweep: Traded, state: TrialState) -> set[int]:
    return {one.number for one in sweep.trials() if one.state is state}


def test_what_would_be_on_the_front_is_trained_to_its_end_and_others_pause(undisturbed):
    trials, objective = undisturbed.trials(), undisturbed.space.settings.objective
    assert of_state(undisturbed, TrialState.PAUSED)
    front = undisturbed.front()
    assert len(front) == 2 and set(front) <= of_state(undisturbed, TrialState.COMPLETE)
    assert sorted(one.number for one in front_of(trials, objective)) == front


def test_with_one_objective_the_cheap_end_of_the_front_is_cut(tmp_path, write_space, undisturbed):
    one = driven(tmp_path / "one", write_space, objective={"evaluations": 8})
    cheap = {trial.number for trial in one.trials() if trial.values["gradient_accumulation_steps"] == 2}
    complete = of_state(one, TrialState.COMPLETE) - {0}
    assert cheap and not cheap & complete


def test_a_sweep_that_is_killed_ends_in_the_trials_of_an_undisturbed_one(tmp_path, undisturbed):
    sweep = Traded(tmp_path / "killed", undisturbed.space)
    drive_through(sweep.drive, kills=6, odds=0.12)
    assert sweep.ends() == undisturbed.ends()
