"""Reads a sweep back from MLflow, for notebooks and checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeper.errors import UserError
from sweeper.track.child_run import all_runs
from sweeper.track.mlflow_logging import set_environment
from sweeper.track.run_writer import PARENT_TAG, SWEEP_ID_TAG, TRIAL_TAG
from sweeper.track.uri import masked

__all__ = ["TrackedTrial", "read_trials"]


@dataclass(frozen=True, kw_only=True)
class TrackedTrial:
    """A child run."""

    number: int
    run_id: str
    status: str
    """MLflow's: FINISHED, KILLED, FAILED, RUNNING."""
    params: dict[str, str]
    tags: dict[str, str]
    history: dict[str, list[tuple[int, float]]]
    """Metric -> (training tokens seen, value), by tokens."""


def read_trials(uri: str, experiment: str, *, sweep_id: str | None = None) -> list[TrackedTrial]:
    """The trials of one sweep, by number; without ``sweep_id`` those of the experiment's latest sweep.

    Raises:
        UserError: there is no such experiment, or no such sweep in it.
    """
    set_environment()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = [] if found is None else all_runs(client, found.experiment_id)
    parents = [run for run in runs if PARENT_TAG not in run.data.tags]
    if sweep_id is not None:
        parents = [run for run in parents if run.data.tags.get(SWEEP_ID_TAG) == sweep_id]
    if not parents:
        remedy = "name the experiment of a sweep"
        raise UserError.of(where=masked(uri), value=experiment, rule="holds no sweep", remedy=remedy)
    children = [run for run in runs if run.data.tags.get(PARENT_TAG) == parents[-1].info.run_id]
    return sorted((_trial(client, run) for run in children), key=lambda trial: trial.number)


def _trial(client: Any, run: Any) -> TrackedTrial:
    run_id = str(run.info.run_id)
    history = {
        name: sorted((int(p.step), float(p.value)) for p in client.get_metric_history(run_id, name))
        for name in run.data.metrics
    }
    return TrackedTrial(
        number=int(run.data.tags[TRIAL_TAG]),
        run_id=run_id,
        status=str(run.info.status),
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        history=history,
    )
