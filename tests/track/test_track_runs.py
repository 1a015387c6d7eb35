"""What a person finds in MLflow after a sweep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sweeper.search import Evaluation
from sweeper.track import (
    MetricPoint,
    Tracker,
    chart_params,
    comparison_url,
    evaluation_points,
    read_trials,
    training_points,
)

SWEEP_ID = {"sweeper.sweep_id": "id-1"}


def start(uri: str, tmp_path: Path, space_file: Path, tags: dict[str, str] | None = None) -> Tracker:
    tracker = Tracker(uri=uri, experiment="demo", log_path=tmp_path / "logs" / "mlflow.log")
    params = {"search": {"trials": 2}}
    tracker.sweep_started(
        name="demo", params=params, tags=SWEEP_ID if tags is None else tags, space_file=space_file
    )
    return tracker


def train(tracker: Tracker, number: int, state: str = "COMPLETE", reason: str | None = None) -> None:
    tracker.trial_started(
        number,
        name=f"{number} · lr 1e-5 · 2 ep",
        searched={"lr": 1e-05, "epochs": 2.0},
        fixed={"training": {"warmup_ratio": 0.03, "packing": True, "lora": None}, "lr": 9},
        config_yaml=f"name: trial {number}\n",
        tags={"versions.torch": "2.13.0"},
    )
    for step in (1, 2):
        tracker.metrics(
            number, training_points({"train/loss": 2.0 / step}, step=step, tokens=100 * step, time_s=step)
        )
    done = Evaluation(tokens=200, step=2, seconds=1.5, metrics={"eval/loss": 0.7, "eval/perplexity": 2.01})
    tracker.metrics(number, evaluation_points(done, trial_started_s=1000.0))
    final = {"eval/loss": 0.7, "perf/startup_s": 0.2}
    tracker.trial_finished(number, state=state, reason=reason, metrics=final)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def parent_of(uri: str) -> Any:
    experiment = client(uri).get_experiment_by_name("demo")
    runs = client(uri).search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    return parents[0]


def artifacts(uri: str, run_id: str) -> set[str]:
    return {item.path for item in client(uri).list_artifacts(run_id)}


@pytest.fixture
def finished(uri: str, tmp_path: Path, space_file: Path) -> str:
    tracker = start(uri, tmp_path, space_file)
    train(tracker, 0)
    train(tracker, 1, "PRUNED", "above the untrained model")
    train(tracker, 2, "FAIL", "diverged")
    best = tmp_path / "best-config.yaml"
    best.write_text("name: demo\n")
    tracker.sweep_finished(
        state="COMPLETE", artifacts=[best], tags={"best_trial": "0"}, metrics={"sweep/best": 0.7}
    )
    assert tracker.close(60) == []
    return uri


def test_a_sweep_is_a_parent_run_with_its_files(finished: str) -> None:
    parent = parent_of(finished)
    assert (parent.info.run_name, parent.info.status) == ("demo", "FINISHED")
    assert parent.data.params == {"search.trials": "2"}
    assert parent.data.metrics == {"sweep/best": 0.7}
    tags = parent.data.tags
    assert (tags["state"], tags["best_trial"], tags["sweeper.sweep_id"]) == ("COMPLETE", "0", "id-1")
    assert artifacts(finished, parent.info.run_id) == {"space.yaml", "best-config.yaml"}


def test_each_trial_is_a_child_run_whose_status_and_tags_say_how_it_ended(finished: str) -> None:
    trials = read_trials(finished, "demo")
    assert [(one.number, one.status, one.tags["state"]) for one in trials] == [
        (0, "FINISHED", "COMPLETE"),
        (1, "KILLED", "PRUNED"),
        (2, "FAILED", "FAIL"),
    ]
    assert trials[2].tags["reason"] == "diverged" and "reason" not in trials[0].tags
    assert {one.tags["mlflow.parentRunId"] for one in trials} == {parent_of(finished).info.run_id}
    assert trials[1].tags["mlflow.runName"] == "1 · lr 1e-5 · 2 ep"


def test_parameters_are_flat_and_numbers_stay_numbers(finished: str) -> None:
    params = read_trials(finished, "demo")[0].params
    assert params == {
        "lr": "1e-05",
        "epochs": "2",
        "training.warmup_ratio": "0.03",
        "training.packing": "true",
        "training.lora": "null",
    }


def test_histories_stand_on_the_axis_of_tokens_seen(finished: str) -> None:
    history = read_trials(finished, "demo")[0].history
    assert history["train/loss"] == [(100, 2.0), (200, 1.0)]
    assert history["eval/loss"] == [(200, 0.7)]
    assert history["train/step"] == [(100, 1.0), (200, 2.0)]
    assert history["perf/startup_s"] == [(0, 0.2)]


def test_the_resolved_configuration_lies_with_the_trial(finished: str) -> None:
    run_id = read_trials(finished, "demo")[2].run_id
    assert artifacts(finished, run_id) == {"config.yaml"}


def test_artifacts_lie_beside_the_store(finished: str, tmp_path: Path) -> None:
    assert list((tmp_path / "mlartifacts" / "demo").rglob("best-config.yaml"))


def test_the_comparison_page_sorts_trials_by_the_objective(finished: str) -> None:
    url = comparison_url(finished, 5000, "demo", metric="eval/loss", mode="min")
    assert "orderByKey=metrics.%60eval%2Floss%60" in url and "orderByAsc=true" in url
    assert comparison_url(finished, 5000, "none", metric="eval/loss", mode="min") == "http://127.0.0.1:5000/"


def test_a_resumed_sweep_goes_on_in_its_parent_and_writes_each_trial_once(
    finished: str, tmp_path: Path, space_file: Path
) -> None:
    again = start(finished, tmp_path, space_file)
    for number in range(4):
        train(again, number)
    again.sweep_finished(state="COMPLETE", artifacts=[], tags={}, metrics={})
    assert again.close(60) == []
    trials = read_trials(finished, "demo")
    assert parent_of(finished).info.status == "FINISHED"
    assert [one.number for one in trials] == [0, 1, 2, 3]
    assert trials[2].tags["state"] == "FAIL" and len(trials[0].history["eval/loss"]) == 1


def test_a_trial_whose_writer_died_is_taken_up_without_doubling_its_points(
    uri: str, tmp_path: Path, space_file: Path
) -> None:
    dying = start(uri, tmp_path, space_file)
    point = MetricPoint(name="train/loss", value=2.0, step=100, time_s=1.0)
    dying.trial_started(0, name="0", searched={"lr": 1e-05}, fixed={}, config_yaml="", tags={})
    dying.metrics(0, [point])
    assert dying.close(60) == []
    assert read_trials(uri, "demo")[0].status == "RUNNING"

    again = start(uri, tmp_path, space_file)
    later = MetricPoint(name="train/loss", value=2.0, step=100, time_s=99.0)
    more = MetricPoint(name="train/loss", value=1.0, step=200, time_s=99.0)
    again.trial_started(0, name="0", searched={"lr": 1e-05}, fixed={}, config_yaml="", tags={})
    again.metrics(0, [later, more])
    again.trial_finished(0, state="COMPLETE", reason=None, metrics={})
    assert again.close(60) == []
    (trial,) = read_trials(uri, "demo")
    assert (trial.status, trial.history["train/loss"]) == ("FINISHED", [(100, 2.0), (200, 1.0)])


def test_a_trial_of_a_dead_driver_can_be_closed_by_the_next_one(
    uri: str, tmp_path: Path, space_file: Path
) -> None:
    dying = start(uri, tmp_path, space_file)
    dying.trial_started(0, name="0", searched={}, fixed={}, config_yaml="", tags={})
    assert dying.close(60) == []
    again = start(uri, tmp_path, space_file)
    again.trial_finished(0, state="FAIL", reason="its driver ended", metrics={})
    assert again.close(60) == []
    (trial,) = read_trials(uri, "demo")
    assert (trial.status, trial.tags["reason"]) == ("FAILED", "its driver ended")


def test_another_sweep_of_the_same_name_is_another_parent(
    finished: str, tmp_path: Path, space_file: Path
) -> None:
    other = start(finished, tmp_path, space_file, {"sweeper.sweep_id": "id-2"})
    train(other, 0)
    other.sweep_finished(state="FAIL", artifacts=[], tags={}, metrics={})
    assert other.close(60) == []
    assert [one.number for one in read_trials(finished, "demo", sweep_id="id-2")] == [0]
    assert len(read_trials(finished, "demo", sweep_id="id-1")) == 3


def test_more_than_mlflow_takes_at_once_is_cut_into_batches(
    uri: str, tmp_path: Path, space_file: Path
) -> None:
    tracker = start(uri, tmp_path, space_file)
    many = {f"p{index}": index for index in range(250)}
    tracker.trial_started(
        0, name="0", searched=many, fixed={"long": "x" * 7000}, config_yaml="", tags={"t": "y" * 9000}
    )
    points = [MetricPoint(name="train/loss", value=float(i), step=i, time_s=1.0) for i in range(2300)]
    tracker.metrics(0, points)
    tracker.trial_finished(0, state="COMPLETE", reason=None, metrics={})
    assert tracker.close(60) == []
    (trial,) = read_trials(uri, "demo")
    assert len(trial.params) == 251 and len(trial.params["long"]) == 6000
    assert len(trial.history["train/loss"]) == 2300


def test_a_loss_that_is_not_a_number_is_recorded_as_such(uri: str, tmp_path: Path, space_file: Path) -> None:
    tracker = start(uri, tmp_path, space_file)
    tracker.trial_started(0, name="0", searched={}, fixed={}, config_yaml="", tags={})
    tracker.metrics(0, [MetricPoint(name="eval/loss", value=math.nan, step=5, time_s=1.0)])
    tracker.trial_finished(0, state="FAIL", reason="diverged", metrics={"eval/loss": math.nan})
    assert tracker.close(60) == []
    (trial,) = read_trials(uri, "demo")
    assert math.isnan(trial.history["eval/loss"][-1][1])


def test_log_ranges_get_a_logarithm_beside_their_value(tmp_path: Path) -> None:
    from sweeper.space import Facts, load_space

    file = tmp_path / "s.yaml"
    file.write_text(
        "name: t\nmodel_path: m\ndata_path: d\ntraining: {lr: {log_uniform: [1e-6, 1e-2]}, epochs: [1, 2]}\n"
    )
    facts = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
    space = load_space(file, gather=lambda settings: facts)
    values = {"lr": 1e-4, "epochs": 2.0}
    assert chart_params(space, values) == {"lr": 1e-4, "epochs": 2.0, "lr_log10": -4.0}


def test_a_trial_that_still_runs_when_its_sweep_ends_is_closed_with_it(
    uri: str, tmp_path: Path, space_file: Path
) -> None:
    tracker = start(uri, tmp_path, space_file)
    tracker.trial_started(0, name="0", searched={}, fixed={}, config_yaml="", tags={})
    tracker.sweep_finished(state="interrupted", artifacts=[], tags={}, metrics={})
    assert tracker.close(60) == []
    (trial,) = read_trials(uri, "demo")
    assert (trial.status, trial.tags["state"]) == ("KILLED", "INTERRUPTED")
    assert parent_of(uri).info.status == "KILLED"


def test_an_interrupted_trial_goes_on_in_its_own_run_when_the_sweep_is_resumed(
    uri: str, tmp_path: Path, space_file: Path
) -> None:
    first = start(uri, tmp_path, space_file)
    first.trial_started(0, name="0", searched={"lr": 1e-05}, fixed={}, config_yaml="", tags={})
    first.metrics(0, [MetricPoint(name="eval/loss", value=2.0, step=100, time_s=1.0)])
    first.sweep_finished(state="interrupted", artifacts=[], tags={}, metrics={})
    assert first.close(60) == []
    (stopped,) = read_trials(uri, "demo")
    assert (stopped.status, stopped.tags["state"]) == ("KILLED", "INTERRUPTED")

    again = start(uri, tmp_path, space_file)
    again.trial_started(0, name="0", searched={"lr": 1e-05}, fixed={}, config_yaml="", tags={})
    again.metrics(0, [MetricPoint(name="eval/loss", value=2.0, step=100, time_s=9.0)])
    again.metrics(0, [MetricPoint(name="eval/loss", value=1.0, step=200, time_s=9.0)])
    again.trial_finished(0, state="COMPLETE", reason=None, metrics={"eval/loss": 1.0})
    assert again.close(60) == []
    (trial,) = read_trials(uri, "demo")
    assert trial.run_id == stopped.run_id
    assert (trial.status, trial.tags["state"]) == ("FINISHED", "COMPLETE")
    assert trial.history["eval/loss"] == [(100, 2.0), (200, 1.0)]
