"""Runs in MLflow: those that are there, and a trial's as far as it is known here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.track.points import MetricPoint
from sweeper.track.text import key

__all__ = ["ChildRun", "all_runs", "final_points", "point_of"]

_PAGE = 1000
"""Runs that are asked for at a time."""


@dataclass
class ChildRun:
    """A child run as far as it is known here."""

    run_id: str
    name: str
    """As MLflow has it: a user's own is left alone."""
    paused: bool = False
    closed: bool = False
    """Finished with nothing missing: nothing is added."""
    known: dict[str, set[int]] = field(default_factory=dict)
    """Metric -> steps of its points, written or waiting."""
    waiting: list[MetricPoint] = field(default_factory=list)
    refused: bool = False
    """Whether points of it were not taken."""
    closed_points: int = 0
    """How many a closed run has."""

    def points(self) -> int:
        written = sum(len(steps) for steps in self.known.values()) - len(self.waiting)
        return self.closed_points if self.closed else written

    def close(self) -> None:
        self.closed_points, self.closed = self.points(), True
        self.known, self.waiting = {}, []


def all_runs(client: Any, experiment_id: str, filter_string: str = "") -> list[Any]:
    """The runs of an experiment, by their start."""
    from mlflow.utils import get_results_from_paginated_fn

    def page(size: int, token: str | None) -> Any:
        return client.search_runs([experiment_id], filter_string, max_results=size, page_token=token)

    found = get_results_from_paginated_fn(page, _PAGE)
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def final_points(run: ChildRun, metrics: Mapping[str, float], at_s: float | None) -> list[MetricPoint]:
    """A metric without a history stands at step 0, of which MLflow draws bars instead of lonely dots."""
    last_step = max((max(steps) for steps in run.known.values() if steps), default=0)
    return [
        point_of(name, value, last_step if any(run.known.get(key(name), ())) else 0, at_s)
        for name, value in metrics.items()
    ]


def point_of(name: str, value: float, step: int, at_s: float | None) -> MetricPoint:
    return MetricPoint(name=name, value=value, step=step, time_s=time.time() if at_s is None else at_s)
