"""What another trainer has logged, while it logs."""

from __future__ import annotations

from sweeper.track.child_run import all_runs
from sweeper.track.mlflow_logging import set_environment

__all__ = ["read_metrics"]


def read_metrics(uri: str, experiment: str) -> list[tuple[str, str, int, float]]:
    """Run, metric, step and value of all points of an experiment; none where the store or the experiment is
    not there yet, or does not answer: what is missing comes later."""
    set_environment()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else all_runs(client, found.experiment_id)
        return [
            (str(run.info.run_id), name, int(point.step), float(point.value))
            for run in runs
            for name in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, name)
        ]
    except (MlflowException, OSError):
        return []
