"""The sweep's events, in the words of the tracker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sweeper.drive.recovery import Setback
from sweeper.search import TrialRecord
from sweeper.spec import Config, Space, dump_config
from sweeper.track import MetricPoint, Tracker, chart_params, training_points
from sweeper.train import STARTUP, Prepared, Progress, StepMetrics

__all__ = ["TrackingListener"]

_SECTIONS = ("training", "deepspeed", "parallel")


class TrackingListener:
    """Sends each trial's parameters, metrics and end to MLflow, as one child run."""

    def __init__(self, tracker: Tracker, space: Space, tags: Mapping[str, str]) -> None:
        """``tags`` hold for every trial: versions and fingerprints."""
        self._tracker, self._space, self._tags = tracker, space, dict(tags)

    def trial_started(self, number: int, record: TrialRecord, config: Config) -> None:
        searched = dict(record.values)
        fixed = chart_params(self._space, searched) | named_parameters(self._space, config)
        tags = self._tags | ({"default": "yes"} if record.is_default else {})
        self._tracker.trial_started(
            number, searched=searched, fixed=fixed, config_yaml=dump_config(config), tags=tags
        )

    def trial_prepared(self, number: int, prepared: Prepared) -> None:
        """Nothing that MLflow wants to know."""

    def progressed(self, number: int, progress: Progress) -> None:
        points = [point for step in progress.steps for point in _step_points(step)]
        metrics = {name: value for name, value in progress.metrics.items() if name != STARTUP}
        points += training_points(metrics, step=progress.step, tokens=progress.tokens, time_s=time.time())
        self._tracker.metrics(number, points)

    def trial_set_back(self, number: int, setback: Setback) -> None:
        """Its parameters stay those that it was begun with: the global batch is the same."""

    def warned(self, number: int, warning: str) -> None:
        """A matter between the sweep and the person."""

    def trial_finished(self, record: TrialRecord) -> None:
        final = dict(record.evaluations[-1].metrics) if record.evaluations else {}
        if "startup_s" in record.attributes:
            final[STARTUP] = record.attributes["startup_s"]
        self._tracker.trial_finished(
            record.number, state=record.state.value, reason=record.reason, metrics=final
        )


def named_parameters(space: Space, config: Config) -> dict[str, Any]:
    """Every setting of a trial that is not searched, by its short name: ``zero_stage``, ``lora.alpha``.

    What follows from the searched values keeps its section in its name
    (``training.global_batch_size``), so that charts offer the searched values first.
    """
    searched = {dimension.name for dimension in space.dimensions}
    following = set(space.following())
    named: dict[str, Any] = {
        "model_path": config.model_path,
        "data_path": ", ".join(source.path for source in config.sources),
    }
    tree = config.model_dump(mode="json")
    for section in _SECTIONS:
        for key, value in tree[section].items():
            nested = value if isinstance(value, dict) else {"": value}
            for inner, item in nested.items():
                name = f"{key}.{inner}" if inner else key
                path = f"{section}.{name}"
                named[path if path in following else name] = item
    return {name: value for name, value in named.items() if name not in searched}


def _step_points(step: StepMetrics) -> list[MetricPoint]:
    metrics = {"train/loss": step.loss, "train/lr": step.lr}
    if step.grad_norm is not None:
        metrics["train/grad_norm"] = step.grad_norm
    return training_points(metrics, step=step.step, tokens=step.tokens, time_s=step.time_s)
