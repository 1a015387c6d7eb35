"""``max_concurrent: auto`` on real ranks: measured before the first trial, and used by all of them."""

from __future__ import annotations

import os
import shutil

import pytest

from sweeper.autotune import Places, known_places
from sweeper.drive import open_sweep, places, run_sweep
from sweeper.search import TrialState

CORES = len(os.sched_getaffinity(0))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CORES < 2, reason="one core cannot be shared"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("known")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def sweep(cache, write_space, migrated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(migrated, folder / "mlflow.db")
    file = write_space(
        folder,
        training__per_device_batch_size=4,
        training__epochs=0.5,
        objective={"evaluations": 1},
        search={"trials": 2, "seed": 0},
        checkpoints={"keep_last": 0, "model": "none"},
        resources={"max_concurrent": "auto"},
    )
    return run_sweep(file, out=folder / "sweep")


def noted(sweep) -> Places:
    _, ledger = open_sweep(sweep.folder)
    return Places.from_dict(ledger.sweep_attributes()["places"])


def test_one_and_two_places_are_measured_and_the_totals_are_kept(sweep):
    found = noted(sweep)
    one, two = found.tried
    assert (one.places, two.places) == (1, 2)  # no more than the sweep has trials
    assert (one.cpus_per_rank, two.cpus_per_rank) == (CORES, CORES // 2)
    for tried in found.tried:
        assert tried.tokens_per_s > 0
        assert tried.evaluated_tokens_per_s > 0
        assert tried.taken_gib > 0
        assert tried.cold_start_s > tried.warm_start_s > 0
    assert found.made_s < min(trial.evaluations[0].time_s for trial in sweep.trials)
    assert known_places(found.shape) == found


def test_every_trial_has_the_place_and_the_cores_that_were_chosen(sweep):
    taken = noted(sweep).taken
    for trial in sweep.trials:
        assert trial.state is TrialState.COMPLETE
        resources = trial.attributes["config"]["resources"]
        assert resources["max_concurrent"] == taken.places
        assert resources["cpus_per_rank"] == taken.cpus_per_rank
    first, second = sorted(sweep.trials, key=lambda trial: trial.started_s)
    assert (second.started_s < first.ended_s) == (taken.places == 2)


def test_a_resumed_sweep_goes_on_with_what_its_ledger_has(sweep, monkeypatch):
    monkeypatch.setattr(places, "settle_places", lambda *_: pytest.fail("measured again"))
    space, ledger = open_sweep(sweep.folder)
    assert space.shared  # the sweep's own file still says auto
    taken = noted(sweep).taken
    again, speed = places.shared_out(space, (), ledger, sweep.folder, print)
    resources = again.close(again.default_values()).resources
    assert (resources.max_concurrent, resources.cpus_per_rank) == (taken.places, taken.cpus_per_rank)
    assert speed.tokens_per_s == taken.tokens_per_s / taken.places
