"""Writes a sweep's events with an MLflow client. Everything here blocks and belongs to the writer thread.

Each event may be written again after it failed half way: what is there already is not written twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.track.child_run import ChildRun, all_runs, final_points, point_of
from sweeper.track.names import old_run_name
from sweeper.track.points import MetricPoint, Points
from sweeper.track.text import cut, flatten, key
from sweeper.track.uri import Redactor

__all__ = ["Content", "Recorder"]

SWEEP_ID_TAG = "sweeper.sweep_id"
POINTS_TAG = "sweeper.points"
"""How many points a child run has: it stands there once the run is closed with nothing missing."""
TRIAL_TAG = "trial"
PARENT_TAG = "mlflow.parentRunId"
INTERRUPTED = "INTERRUPTED"
"""State of a trial that a resumed sweep goes on with, under the same number."""
PAUSED = "PAUSED"
"""State of a trial that gave up its place and may go on."""

_PARAM_LIMIT = 6000
_TAG_LIMIT = 8000
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


@dataclass(frozen=True, kw_only=True)
class Content:
    """What MLflow has of a sweep."""

    trials: int
    points: int
    """Of all trials."""
    added_points: int
    """Those of them that this process wrote."""


class Recorder:
    """The runs of one sweep in one experiment. Not thread-safe.

    ``at_s`` is when an event happened, in seconds since the epoch; None is when it is written.
    Every call raises what MLflow raises. It can be made again then, after ``look_again``.
    """

    def __init__(self, *, client: Any, experiment_id: str, redact: Redactor) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._redact = redact
        self._sweep_id: str | None = None
        self._parent: str | None = None
        self._trials: dict[int, ChildRun] = {}
        self._waiting_since: float | None = None
        self._batch: tuple[ChildRun, Sequence[MetricPoint]] | None = None
        """On its way to MLflow."""
        self._added = 0
        self._looked_again = False

    @property
    def oldest_s(self) -> float:
        """How long the oldest unwritten point has been waiting, in seconds."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def content(self) -> Content:
        """As far as it was written or looked at here."""
        points = sum(run.points() for run in self._trials.values())
        return Content(trials=len(self._trials), points=points, added_points=self._added)

    def look_again(self) -> None:
        """Sees what has arrived although its answer was lost, so that nothing is written twice."""
        self._batch, self._looked_again = None, True
        if self._parent is not None:  # else its event will look for it
            self._find_parent()
            self._find_trials(self._parent)

    def drop_batch(self) -> bool:
        """Gives up the points that MLflow has just refused; whether there were any."""
        if self._batch is None:
            return False
        run, batch = self._batch
        for point in batch:
            run.known[key(point.name)].discard(point.step)
        run.waiting = run.waiting[len(batch) :]
        run.refused, self._batch = True, None
        return True

    def sweep_started(
        self,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        space_file: Path,
        at_s: float | None = None,
    ) -> None:
        """Opens the parent run, or finds it again.

        The tag ``sweeper.sweep_id``, unique for one sweep, says which parent run is this sweep's;
        without it each call makes a new parent. Nested ``params`` are flattened to dotted names.
        """
        self._sweep_id = tags.get(SWEEP_ID_TAG)
        self._parent = self._parent or self._find_parent()
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
        name: str,
        searched: Mapping[str, Any],
        fixed: Mapping[str, Any],
        config_yaml: str,
        tags: Mapping[str, str],
        at_s: float | None = None,
    ) -> None:
        """Opens a trial's child run, or finds it again, to rename it where an earlier version made it.

        A parameter in both mappings is taken from ``searched``.
        """
        run = self._trials.get(number)
        labels = {**tags, TRIAL_TAG: str(number), "searched": ", ".join(searched), "state": "RUNNING"}
        if run is None:
            parent = {} if self._parent is None else {PARENT_TAG: self._parent}
            run = ChildRun(self._create(name, {**labels, **parent}, at_s), name=name)
            self._trials[number] = run
        else:
            if run.name == old_run_name(number) != name:
                self._client.update_run(run.run_id, name=name)
                run.name = name
            if run.closed:
                return
            run.paused = False
            self._client.update_run(run.run_id, status="RUNNING")
            self._log_tags(run.run_id, labels)
        self._log_params(run.run_id, {**fixed, **searched})
        self._client.log_text(run.run_id, self._redact(config_yaml), "config.yaml")

    def metrics(self, number: int, points: Points) -> None:
        """Keeps points of a trial's histories for the next flush; their step is the training tokens seen.

        A function that reads them is called unless MLflow has the whole trial. Those of a trial that never
        started are dropped.
        """
        run = self._trials.get(number)
        if run is None or run.closed:
            return
        # The optimizer step comes with training and with evaluation metrics of the same moment, and a
        # trial that goes on from a checkpoint repeats some: what stands already stays.
        for point in points() if callable(points) else points:
            steps = run.known.setdefault(key(point.name), set())
            if point.step not in steps:
                steps.add(point.step)
                run.waiting.append(point)
        if run.waiting and self._waiting_since is None:
            self._waiting_since = time.monotonic()
        if len(run.waiting) >= _METRICS_PER_BATCH:
            self._flush_run(run)

    def trial_paused(self, number: int, *, reason: str | None) -> None:
        """Says so in the tags of a child run, which stays open: ``trial_started`` comes again when it goes
        on."""
        run = self._trials.get(number)
        if run is None or run.closed:
            return
        run.paused = True
        self._flush_run(run)
        self._log_tags(run.run_id, {"state": PAUSED} | ({"reason": reason} if reason else {}))

    def trial_finished(
        self,
        number: int,
        *,
        state: str,
        reason: str | None,
        metrics: Mapping[str, float],
        at_s: float | None = None,
    ) -> None:
        """Closes a child run: COMPLETE -> FINISHED, PRUNED -> KILLED, FAIL -> FAILED."""
        run = self._trials.get(number)
        if run is None or run.closed:
            return
        self.metrics(number, final_points(run, metrics, at_s))
        self._flush_run(run)
        labels = {"state": state} | ({"reason": reason} if reason else {})
        self._log_tags(run.run_id, labels | ({} if run.refused else {POINTS_TAG: str(run.points())}))
        self._terminate(run.run_id, state, at_s)
        run.close()

    def sweep_finished(
        self,
        *,
        state: str,
        artifacts: Sequence[Path],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        trial_tags: Mapping[int, Mapping[str, str]] | None = None,
        at_s: float | None = None,
    ) -> None:
        """Closes the parent run, with files that must still be there when the writer comes to them.

        ``trial_tags`` are what only the whole sweep tells of its trials, by their numbers."""
        self.flush()
        if self._looked_again:
            # A request that took longer than its sender had patience may have been carried out since.
            self.look_again()
        self._close_trials(at_s)
        for number, labels in (trial_tags or {}).items():
            if number in self._trials:
                self._log_tags(self._trials[number].run_id, labels)
        if self._parent is None:
            return
        there = self._client.get_run(self._parent).data.metrics
        # At step 0 MLflow draws a bar; what a sweep that got more trials has made of it comes after that.
        fresh = [
            point_of(name, value, len(self._trials) if key(name) in there else 0, at_s)
            for name, value in metrics.items()
            if there.get(key(name)) != value
        ]
        self._write_points(self._parent, fresh)
        self._log_tags(self._parent, {**tags, "state": state})
        for path in artifacts:
            self._log_file(self._parent, path)
        self._terminate(self._parent, state, at_s)

    def _close_trials(self, at_s: float | None) -> None:
        """No trial outlives its sweep; a resumed one opens again what ends here."""
        for run in self._trials.values():
            if not run.closed:
                self._log_tags(run.run_id, {"state": PAUSED if run.paused else INTERRUPTED})
                self._terminate(run.run_id, INTERRUPTED, at_s)
                run.close()

    def flush(self) -> None:
        """Writes every waiting point."""
        for run in self._trials.values():
            self._flush_run(run)
        self._waiting_since = None

    def _flush_run(self, run: ChildRun) -> None:
        # The first metric of a run is the one that MLflow's compare page opens with.
        run.waiting.sort(key=lambda point: not point.name.startswith("eval/"))
        while run.waiting:
            batch = run.waiting[:_METRICS_PER_BATCH]
            self._batch = run, batch
            self._write_points(run.run_id, batch)
            self._batch = None
            self._added += len(batch)
            run.waiting = run.waiting[len(batch) :]

    def _write_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """At most as many as MLflow takes at once."""
        from mlflow.entities import Metric

        metrics = [
            Metric(key(point.name), float(point.value), int(point.time_s * 1000), point.step)
            for point in points
        ]
        self._client.log_batch(run_id, metrics=metrics)

    def _terminate(self, run_id: str, state: str, at_s: float | None) -> None:
        status = _STATUS.get(state.upper(), "FAILED")
        self._client.set_terminated(run_id, status=status, end_time=_milliseconds(at_s))

    def _create(self, run_name: str, tags: Mapping[str, str], at_s: float | None) -> str:
        labels = {key(name): self._redact(str(value))[:_TAG_LIMIT] for name, value in tags.items()}
        labels |= {"mlflow.source.name": "sweeper", "mlflow.source.type": "LOCAL"}
        run = self._client.create_run(
            self._experiment_id, start_time=_milliseconds(at_s), tags=labels, run_name=run_name
        )
        return str(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entries = [Param(key(k), cut(self._redact(v), _PARAM_LIMIT)) for k, v in flatten(params)]
        self._client.log_batch(run_id, params=entries)

    def _log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(key(k), cut(self._redact(str(v)), _TAG_LIMIT)) for k, v in tags.items()]
        self._client.log_batch(run_id, tags=entries)

    def _log_file(self, run_id: str, path: Path) -> None:
        """Stores a file, without the secrets that it quotes."""
        if self._redact.has_secret:
            text = path.read_bytes().decode("utf-8", errors="replace")
            self._client.log_text(run_id, self._redact(text), path.name)
        else:
            self._client.log_artifact(run_id, str(path))

    def _find_parent(self) -> str | None:
        """The sweep's run, None without one; of two the one that is known, or the first."""
        if self._sweep_id is None:
            return None
        found = self._search(SWEEP_ID_TAG, self._sweep_id)
        parents = [str(run.info.run_id) for run in found if PARENT_TAG not in run.data.tags]
        if not parents:
            return None
        chosen = self._parent if self._parent in parents else parents[0]
        for other in parents:
            if other != chosen and not self._search(PARENT_TAG, other):
                self._client.delete_run(other)
        return chosen

    def _find_trials(self, parent: str) -> None:
        """Take up the child runs that are there; of two for one trial the one that is known, or the first."""
        for run in self._search(PARENT_TAG, parent):
            number = run.data.tags.get(TRIAL_TAG, "")
            if not number.isdigit():
                continue
            known = self._trials.setdefault(
                int(number), ChildRun(str(run.info.run_id), name=run.info.run_name)
            )
            if known.run_id == run.info.run_id:
                self._take_up(known, run)
            elif not run.data.metrics:
                self._client.delete_run(run.info.run_id)

    def _take_up(self, run: ChildRun, found: Any) -> None:
        tags = found.data.tags
        goes_on = found.info.status in ("RUNNING", "SCHEDULED") or tags.get("state") in (INTERRUPTED, PAUSED)
        if not goes_on and tags.get(POINTS_TAG, "").isdigit():
            run.close()
            run.closed_points = int(tags[POINTS_TAG])
        if run.closed:
            return
        for name in found.data.metrics:
            steps = {int(point.step) for point in self._client.get_metric_history(run.run_id, name)}
            run.known.setdefault(name, set()).update(steps)
            waiting = [one for one in run.waiting if key(one.name) != name or one.step not in steps]
            self._added += len(run.waiting) - len(waiting)
            run.waiting = waiting

    def _search(self, tag: str, value: str) -> list[Any]:
        return all_runs(self._client, self._experiment_id, f"tags.`{tag}` = '{value}'")


def _milliseconds(at_s: float | None) -> int:
    return int((time.time() if at_s is None else at_s) * 1000)
