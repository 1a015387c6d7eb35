"""Writes a sweep's events with an MLflow client. Everything here blocks and belongs to the writer thread."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.track.points import MetricPoint
from sweeper.track.uri import Redactor

__all__ = ["Recorder", "flatten"]

SWEEP_ID_TAG = "sweeper.sweep_id"
TRIAL_TAG = "trial"
PARENT_TAG = "mlflow.parentRunId"
INTERRUPTED = "INTERRUPTED"
"""State of a trial that a resumed sweep goes on with, under the same number."""

_PARAM_LIMIT = 6000
_TAG_LIMIT = 8000
_KEY_LIMIT = 250
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000
"""MLflow's limits: mlflow.utils.validation, and the same on its servers."""

_STATUS = {
    "COMPLETE": "FINISHED",
    "FINISHED": "FINISHED",
    "PRUNED": "KILLED",
    "STOPPED": "KILLED",
    INTERRUPTED: "KILLED",
}
"""A state that is not here is a failure."""


@dataclass
class _Run:
    """A child run as far as it is known here."""

    run_id: str
    closed: bool = False
    """Finished: nothing is added."""
    latest: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Metric -> step and value of its latest point."""
    known: set[tuple[str, int]] = field(default_factory=set)
    """Points (metric, step) that an earlier process wrote."""
    waiting: list[MetricPoint] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        return max((step for step, _ in self.latest.values()), default=0)


class Recorder:
    """The runs of one sweep in one experiment. Not thread-safe.

    ``at_s`` is when an event happened, in seconds since the epoch: it is written later than that.
    """

    def __init__(self, *, client: Any, experiment_id: str, redact: Redactor) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._redact = redact
        self._parent: str | None = None
        self._trials: dict[int, _Run] = {}
        self._waiting_since: float | None = None

    @property
    def oldest_s(self) -> float:
        """How long the oldest unwritten point has been waiting, in seconds."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def sweep_started(
        self, *, name: str, params: Mapping[str, Any], tags: Mapping[str, str], space_file: Path, at_s: float
    ) -> None:
        self._parent = self._find_parent(tags.get(SWEEP_ID_TAG))
        if self._parent is None:
            self._parent = self._create(name, tags, at_s)
        else:
            self._client.update_run(self._parent, status="RUNNING")
            self._find_trials(self._parent)
        self._log_params(self._parent, params)
        self._log_tags(self._parent, {**tags, "state": "RUNNING"})
        self._log_file(self._parent, space_file)

    def trial_started(
        self,
        number: int,
        *,
        params: Mapping[str, Any],
        searched: Sequence[str],
        config_yaml: str,
        tags: Mapping[str, str],
        at_s: float,
    ) -> None:
        run = self._trials.get(number)
        if run is not None and run.closed:
            return
        labels = {**tags, TRIAL_TAG: str(number), "searched": ", ".join(searched), "state": "RUNNING"}
        if run is None:
            parent = {} if self._parent is None else {PARENT_TAG: self._parent}
            run = _Run(self._create(f"trial-{number}", {**labels, **parent}, at_s))
            self._trials[number] = run
        else:
            self._client.update_run(run.run_id, status="RUNNING")
            self._log_tags(run.run_id, labels)
        self._log_params(run.run_id, params)
        self._client.log_text(run.run_id, self._redact(config_yaml), "config.yaml")

    def metrics(self, number: int, points: Sequence[MetricPoint]) -> None:
        """Keeps the points for the next flush. Those of a trial that never started are dropped."""
        run = self._trials.get(number)
        if run is None or run.closed:
            return
        fresh = []
        for point in points:
            step, value = run.latest.get(point.name, (-1, 0.0))
            # The optimizer step comes with training and with evaluation metrics of the same moment.
            if (point.name, point.step) in run.known or (point.step, point.value) == (step, value):
                continue
            fresh.append(point)
            if point.step >= step:
                run.latest[point.name] = (point.step, point.value)
        run.waiting += fresh
        if fresh and self._waiting_since is None:
            self._waiting_since = time.monotonic()
        if len(run.waiting) >= _METRICS_PER_BATCH:
            self._flush_run(run)

    def trial_finished(
        self, number: int, *, state: str, reason: str | None, metrics: Mapping[str, float], at_s: float
    ) -> None:
        run = self._trials.get(number)
        if run is None or run.closed:
            return
        self.metrics(number, _final_points(run, metrics, at_s))
        self._flush_run(run)
        self._log_tags(run.run_id, {"state": state} | ({"reason": reason} if reason else {}))
        self._terminate(run.run_id, state, at_s)
        run.closed = True

    def sweep_finished(
        self,
        *,
        state: str,
        artifacts: Sequence[Path],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        at_s: float,
    ) -> None:
        self.flush()
        self._close_trials(at_s)
        if self._parent is None:
            return
        points = [MetricPoint(name=n, value=v, step=0, time_s=at_s) for n, v in metrics.items()]
        self._write_points(self._parent, points)
        self._log_tags(self._parent, {**tags, "state": state})
        for path in artifacts:
            self._log_file(self._parent, path)
        self._terminate(self._parent, state, at_s)

    def _close_trials(self, at_s: float) -> None:
        """No trial outlives its sweep; a resumed one opens again what ends here."""
        for run in self._trials.values():
            if not run.closed:
                run.closed = True
                self._log_tags(run.run_id, {"state": INTERRUPTED})
                self._terminate(run.run_id, INTERRUPTED, at_s)

    def flush(self) -> None:
        """Writes every waiting point."""
        self._waiting_since = None
        for run in self._trials.values():
            self._flush_run(run)

    def _flush_run(self, run: _Run) -> None:
        # The first metric of a run is the one that MLflow's compare page opens with.
        points = sorted(run.waiting, key=lambda point: not point.name.startswith("eval/"))
        run.waiting = []
        self._write_points(run.run_id, points)

    def _write_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_key(point.name), float(point.value), int(point.time_s * 1000), point.step)
            for point in points
        ]
        for chunk in _chunks(metrics, _METRICS_PER_BATCH):
            self._client.log_batch(run_id, metrics=chunk)

    def _terminate(self, run_id: str, state: str, at_s: float) -> None:
        status = _STATUS.get(state.upper(), "FAILED")
        self._client.set_terminated(run_id, status=status, end_time=int(at_s * 1000))

    def _create(self, name: str, tags: Mapping[str, str], at_s: float) -> str:
        labels = {_key(key): self._redact(str(value))[:_TAG_LIMIT] for key, value in tags.items()}
        labels |= {"mlflow.source.name": "sweeper", "mlflow.source.type": "LOCAL"}
        run = self._client.create_run(
            self._experiment_id, start_time=int(at_s * 1000), tags=labels, run_name=name
        )
        return str(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entries = [Param(_key(k), _cut(self._redact(v), _PARAM_LIMIT)) for k, v in flatten(params)]
        for chunk in _chunks(entries, _PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=chunk)

    def _log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(_key(k), _cut(self._redact(str(v)), _TAG_LIMIT)) for k, v in tags.items()]
        for chunk in _chunks(entries, _PARAMS_PER_BATCH):
            self._client.log_batch(run_id, tags=chunk)

    def _log_file(self, run_id: str, path: Path) -> None:
        """Stores a file; where it quotes the store's password, a copy without it."""
        if not self._redact.has_secret:
            self._client.log_artifact(run_id, str(path))
            return
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(self._redact(text).encode("utf-8", errors="surrogateescape"))
            self._client.log_artifact(run_id, str(copy))

    def _find_parent(self, sweep_id: str | None) -> str | None:
        if sweep_id is None:
            return None
        found = self._search(f"tags.`{SWEEP_ID_TAG}` = '{_quoted(sweep_id)}'")
        parents = [run for run in found if PARENT_TAG not in run.data.tags]
        return str(parents[0].info.run_id) if parents else None

    def _find_trials(self, parent: str) -> None:
        for run in self._search(f"tags.`{PARENT_TAG}` = '{parent}'"):
            number = run.data.tags.get(TRIAL_TAG, "")
            if number.isdigit():
                running = run.info.status in ("RUNNING", "SCHEDULED")
                goes_on = running or run.data.tags.get("state") == INTERRUPTED
                self._trials[int(number)] = self._adopt(run, closed=not goes_on)

    def _adopt(self, found: Any, closed: bool) -> _Run:
        run = _Run(str(found.info.run_id), closed=closed)
        if closed:
            return run
        for name in found.data.metrics:
            history = self._client.get_metric_history(run.run_id, name)
            run.known |= {(name, point.step) for point in history}
            last = max(history, key=lambda point: (point.step, point.timestamp))
            run.latest[name] = (last.step, last.value)
        return run

    def _search(self, filter_string: str) -> list[Any]:
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], filter_string=filter_string, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs


def _final_points(run: _Run, metrics: Mapping[str, float], at_s: float) -> list[MetricPoint]:
    """A metric without a history stands at step 0, of which MLflow draws bars instead of lonely dots."""
    return [
        MetricPoint(name=name, value=value, step=run.last_step if name in run.latest else 0, time_s=at_s)
        for name, value in metrics.items()
        if run.latest.get(name) != (run.last_step, value)
    ]


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of each leaf, written as in a space file: ``true``, ``null``, ``1e-05``."""
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        # 2.0 and 2 must be one value on an axis of MLflow's charts.
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _key(name: str) -> str:
    """A name with MLflow's characters only."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:_KEY_LIMIT]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _quoted(text: str) -> str:
    return text.replace("'", "")


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
