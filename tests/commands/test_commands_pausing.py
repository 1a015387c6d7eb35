"""A real sweep whose trials pause: what is on the disk, in MLflow and on the screen of them."""

from __future__ import annotations

import pytest
from mlflow_content import assert_equal_to_ledger

from sweeper.commands import resume_sweep, run_sweep
from sweeper.recommend import paused_line, results_rows
from sweeper.search import TrialState
from sweeper.track import tracking_uri
from sweeper.training import newest_checkpoint

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS, EVALUATIONS = 6, 6


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, write_space):
    file = write_space(
        tmp_path_factory.mktemp("space"),
        training__lr={"log_uniform": [1e-6, 1e-1]},
        training__epochs=2,
        search={"trials": TRIALS, "seed": 0},
        objective={"evaluations": EVALUATIONS},
    )
    return run_sweep(file, out=tmp_path_factory.mktemp("sweeps") / "pausing")


def of_state(sweep, state):
    return [trial for trial in sweep.trials if trial.state is state]


def test_a_trial_with_little_chance_is_paused_after_an_evaluation_and_keeps_its_state(sweep):
    paused = of_state(sweep, TrialState.PAUSED)
    assert len(sweep.trials) == TRIALS and paused and sweep.best is not None
    for trial in paused:
        assert 2 <= len(trial.evaluations) < EVALUATIONS
        assert newest_checkpoint(sweep.folder.trial_checkpoints(trial.number)) is not None
        assert not sweep.folder.trial_pause(trial.number).exists()
    assert not any(
        sweep.folder.trial_checkpoints(one.number).exists() for one in of_state(sweep, TrialState.COMPLETE)
    )


def test_paused_trials_are_listed_with_their_chances(sweep):
    line = paused_line(sweep.trials)
    rows = {row["trial"]: row for row in results_rows(sweep.space, sweep.trials)}
    for trial in of_state(sweep, TrialState.PAUSED):
        assert f"{trial.number} ({trial.chance:.1%})" in line
        assert rows[trial.number]["state"] == "PAUSED" and rows[trial.number]["rank"] is None
        assert "its chance to beat the best" in rows[trial.number]["reason"]


def test_mlflow_has_the_curves_of_paused_trials_and_says_that_they_are(sweep):
    assert_equal_to_ledger(tracking_uri(sweep.space.settings, sweep.folder.root), sweep.folder.root)


def test_a_sweep_that_gets_more_trials_goes_on_beside_what_is_paused(sweep):
    longer = resume_sweep(sweep.folder.root, trials=TRIALS + 2)
    assert len(longer.trials) == TRIALS + 2
    assert all(
        one.state in (TrialState.COMPLETE, TrialState.PAUSED, TrialState.PRUNED) for one in longer.trials
    )
    for trial in of_state(sweep, TrialState.COMPLETE):
        assert longer.trials[trial.number] == trial
    assert_equal_to_ledger(tracking_uri(sweep.space.settings, sweep.folder.root), sweep.folder.root)
