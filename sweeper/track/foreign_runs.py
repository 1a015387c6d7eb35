"""The runs of anybody's MLflow experiment, to be imported into history."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sweeper.errors import UserError
from sweeper.history import ForeignTrial
from sweeper.track.child_run import all_runs
from sweeper.track.mlflow_logging import set_environment
from sweeper.track.uri import masked

__all__ = ["read_runs"]


def read_runs(
    uri: str, experiment: str, metric: str, names: Collection[str]
) -> tuple[list[ForeignTrial], float]:
    """The ended runs that have the metric, by start, and when the first began, in seconds since the epoch.

    Raises:
        UserError: there is no such experiment, or none of its runs has the metric.
    """
    set_environment()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(sorted(one.name for one in client.search_experiments())) or "none"
        raise _wrong(uri, experiment, "there is no experiment of this name", f"its experiments are: {known}")
    runs = all_runs(client, found.experiment_id)
    ended = [run for run in runs if run.info.status != "RUNNING" and metric in run.data.metrics]
    if not ended:
        logged = sorted({name for run in runs for name in run.data.metrics})
        remedy = f"name its metric in the mapping, `value: NAME`; there are: {', '.join(logged) or 'none'}"
        raise _wrong(uri, f"{experiment}: {metric}", "no run that has ended has this metric", remedy)
    trials = [_foreign(client, run, number, metric, names) for number, run in enumerate(ended)]
    return trials, ended[0].info.start_time / 1000


def _foreign(client: Any, run: Any, number: int, metric: str, names: Collection[str]) -> ForeignTrial:
    points = client.get_metric_history(run.info.run_id, metric)
    seen = {float(max(one.step, 1)): float(one.value) for one in sorted(points, key=lambda p: p.timestamp)}
    end = run.info.end_time
    return ForeignTrial(
        number=number,
        values={name: value for name, value in run.data.params.items() if name in names},
        evaluations=sorted(seen.items()),
        is_complete=run.info.status == "FINISHED",
        seconds=None if end is None else (end - run.info.start_time) / 1000,
    )


def _wrong(uri: str, value: str, rule: str, remedy: str) -> UserError:
    return UserError.of(where=masked(uri), value=value, rule=rule, remedy=remedy)
