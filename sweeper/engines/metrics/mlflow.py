"""Metrics that a trainer logs to MLflow, into an experiment of the trial's own."""

from __future__ import annotations

from sweeper.engines.metrics.point import Names, Point
from sweeper.track import read_metrics

__all__ = ["Runs"]


class Runs:
    """Each point of each metric once; those of one step are one report."""

    look_every_s = 2.0

    def __init__(self, uri: str, experiment: str, names: Names) -> None:
        self._uri, self._experiment, self._names = uri, experiment, names
        self._seen: set[tuple[str, str, int, float]] = set()

    def read(self) -> list[Point]:
        by_step: dict[int, dict[str, float]] = {}
        for run, name, step, value in read_metrics(self._uri, self._experiment):
            if (run, name, step, value) not in self._seen:
                self._seen.add((run, name, step, value))
                by_step.setdefault(step, {})[name] = value
        return [self._names.point({"step": step, **by_step[step]}) for step in sorted(by_step)]
