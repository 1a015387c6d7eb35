"""``objective.at: best`` on real Ray, DeepSpeed and MLflow: what a sweep promises, training reaches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sweeper.commands import run_sweep, train_config
from sweeper.search import TrialState
from sweeper.track import read_trials, tracking_uri


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.usefixtures("running_ray")
def test_the_model_and_the_value_of_the_best_evaluation_are_those_that_training_reaches_again(
    write_space, tmp_path
):
    file = write_space(
        tmp_path,
        training={
            "lr": [2e-3, 5e-3],  # so many passes: the held-out loss rises again before the end
            "scheduler": "constant",
            "epochs": 8,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        objective={"evaluations": 6, "at": "best"},
        search={"trials": 2, "stopper": "none"},
        resources={"max_concurrent": 1, "cpus_per_rank": 1},
    )
    sweep = run_sweep(file, out=tmp_path / "sweep")
    assert [trial.state for trial in sweep.trials] == [TrialState.COMPLETE] * 2
    for trial in sweep.trials:
        curve = [one.metrics["eval/loss"] for one in trial.evaluations]
        assert trial.value == min(curve) < curve[-1]
        assert trial.decisive == trial.evaluations[curve.index(min(curve))]

    best, answer = sweep.best, YAML(typ="safe").load(sweep.folder.best_config)
    assert best.value == min(trial.value for trial in sweep.trials) == answer["provenance"]["value"]
    assert answer["objective"]["at"] == "best"
    assert answer["provenance"]["value_tokens"] == best.decisive.tokens

    result = train_config(sweep.folder.best_config, output_dir=tmp_path / "model")
    assert result.metrics["eval/loss"] == result.promised == best.value
    assert result.tokens == best.decisive.tokens < result.tokens_trained
    assert weights(tmp_path / "model") == weights(sweep.folder.trial_model(best.number))

    tracked = read_trials(tracking_uri(sweep.space.settings, sweep.folder.root), "small")
    assert [one.history["best/loss"][-1][1] for one in tracked] == [trial.value for trial in sweep.trials]
    assert all(len(one.history["eval/loss"]) >= 6 for one in tracked)  # the curve is there as always
