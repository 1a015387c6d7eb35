"""What MLflow has of one sweep, as plain values that two stores can be compared by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeper.commands import open_sweep
from sweeper.space import SweepFolder
from sweeper.sweep.steps import read_steps
from sweeper.track import run_name


def mlflow_content(uri: str, experiment: str) -> dict[str, Any]:
    """Name of each run -> what a person sees of it. Fails where a name stands twice."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    names = [run.info.run_name for run in found]
    assert sorted(names) == sorted(set(names)), "a run is there twice"
    return {run.info.run_name: _run(client, run) for run in found}


def _run(client: Any, run: Any) -> dict[str, Any]:
    history = {
        name: sorted((p.step, p.value, p.timestamp) for p in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    for name, points in history.items():
        steps = [step for step, *_ in points]
        assert steps == sorted(set(steps)), f"{name} is there twice at a step"
    tags = {name: tag for name, tag in run.data.tags.items() if name != "mlflow.parentRunId"}
    artifacts = sorted(item.path for item in client.list_artifacts(run.info.run_id))
    return {
        "status": run.info.status,
        "time": (run.info.start_time, run.info.end_time),
        "params": dict(run.data.params),
        "tags": tags,
        "history": history,
        "artifacts": artifacts,
    }


def assert_equal_to_ledger(uri: str, root: Path) -> None:
    """Each trial is there once, with each point of ledger and files of steps once, and with no other."""
    folder = SweepFolder(root)
    space, ledger = open_sweep(folder)
    content = mlflow_content(uri, space.experiment)
    parent, records = content.pop(space.name), ledger.trials()
    assert parent["status"] == "FINISHED"
    names = {record.number: run_name(space, record.number, record.values) for record in records}
    assert set(content) == set(names.values())
    for record in records:
        history = content[names[record.number]]["history"]
        expected = _expected(record, read_steps(folder.trial_steps(record.number)))
        values = {name: {step: value for step, value, _ in points} for name, points in history.items()}
        steps_of = {name: set(points) for name, points in values.items()}
        assert steps_of == {name: set(points) for name, points in expected.items()}
        for name in expected:
            # An evaluation that a killed driver's trial repeats has other timings: there the first stand.
            assert name.startswith("perf/") or values[name] == expected[name]
        assert content[names[record.number]]["tags"]["state"] == record.state.value


def _expected(record: Any, steps: list[Any]) -> dict[str, dict[int, float]]:
    points: dict[str, dict[int, float]] = {}

    def add(name: str, tokens: int, value: float) -> None:
        points.setdefault(name, {})[tokens] = value

    for evaluation in (*([record.untrained] if record.untrained else []), *record.evaluations):
        add("train/step", evaluation.tokens, evaluation.step)
        for name, value in evaluation.metrics.items():
            if name != "perf/startup_s":
                add(name, evaluation.tokens, value)
    for step in steps:
        for name, value in (("loss", step.loss), ("lr", step.lr), ("grad_norm", step.grad_norm)):
            if value is not None:
                add(f"train/{name}", step.tokens, value)
        add("train/step", step.tokens, step.step)
    if "startup_s" in record.attributes and record.state.is_finished:
        add("perf/startup_s", 0, record.attributes["startup_s"])
    if record.saved_tokens and record.state.is_finished:
        add("saved_tokens", 0, record.saved_tokens)
    return points
