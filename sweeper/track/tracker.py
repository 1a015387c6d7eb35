"""The sweep's side of MLflow: hands events to one writer thread and never waits for it."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweeper.track.points import MetricPoint
from sweeper.track.quiet import open_log, set_environment
from sweeper.track.recorder import Recorder
from sweeper.track.store import open_store
from sweeper.track.uri import Redactor, masked

__all__ = ["Tracker"]

_Event = Callable[[Recorder], None]

_FLUSH_S = 2.0
"""Metrics wait at most this long: one transaction for many points keeps the writer off the trials' CPU."""

_log = logging.getLogger("sweeper.track")


class Tracker:
    """Writes a sweep's events to MLflow in the background.

    No method blocks, raises or prints: what MLflow refuses becomes a line in the log and one of the
    warnings that :meth:`close` returns. Methods may be called from any thread; events are written in
    the order of the calls. The ledger stays the only record that counts: a process that dies loses
    what was still queued, and a resumed sweep may hand over everything again, since trials that are
    already finished in MLflow are skipped and points that are already there are not written twice.

    The store is created by this process, whole or not at all, while the sweep goes on. Make the
    ledger first: both migrate their databases with alembic, which is not safe in two threads at once.
    """

    def __init__(self, *, uri: str, experiment: str, log_path: Path) -> None:
        self._uri = uri
        self._experiment = experiment
        self._log_path = log_path
        self._redact = Redactor(uri, environment=os.environ)
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._warnings: dict[str, None] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def sweep_started(
        self, *, name: str, params: dict[str, Any], tags: dict[str, str], space_file: Path
    ) -> None:
        """Opens the parent run, or finds it again.

        The tag ``sweeper.sweep_id``, unique for one sweep, says which parent run is this sweep's;
        without it each call makes a new parent. Nested ``params`` are flattened to dotted names.
        """
        copy, labels, at_s = dict(params), dict(tags), time.time()
        self._put(
            lambda r: r.sweep_started(name=name, params=copy, tags=labels, space_file=space_file, at_s=at_s)
        )

    def trial_started(
        self,
        number: int,
        *,
        searched: dict[str, Any],
        fixed: dict[str, Any],
        config_yaml: str,
        tags: dict[str, str],
    ) -> None:
        """Opens the child run ``trial-<number>``; a parameter in both mappings is taken from ``searched``."""
        params = searched | {key: value for key, value in fixed.items() if key not in searched}
        names, labels, at_s = list(searched), dict(tags), time.time()
        self._put(
            lambda r: r.trial_started(
                number, params=params, searched=names, config_yaml=config_yaml, tags=labels, at_s=at_s
            )
        )

    def metrics(self, number: int, points: Sequence[MetricPoint]) -> None:
        """Adds points to a trial's histories; their step is the number of training tokens seen."""
        copy = tuple(points)
        self._put(lambda r: r.metrics(number, copy))

    def trial_finished(
        self, number: int, *, state: str, reason: str | None, metrics: dict[str, float]
    ) -> None:
        """Closes a child run: COMPLETE -> FINISHED, PRUNED -> KILLED, FAIL -> FAILED."""
        copy, at_s = dict(metrics), time.time()
        self._put(lambda r: r.trial_finished(number, state=state, reason=reason, metrics=copy, at_s=at_s))

    def sweep_finished(
        self, *, state: str, artifacts: Sequence[Path], tags: dict[str, str], metrics: dict[str, float]
    ) -> None:
        """Closes the parent run, with files that must still be there when the writer comes to them."""
        files, labels, copy, at_s = tuple(artifacts), dict(tags), dict(metrics), time.time()
        self._put(
            lambda r: r.sweep_finished(state=state, artifacts=files, tags=labels, metrics=copy, at_s=at_s)
        )

    def close(self, timeout_s: float) -> list[str]:
        """Waits until everything is written, at most ``timeout_s``; returns what went wrong, in sentences."""
        if not self._closed:
            self._closed = True
            self._events.put(None)
        self._thread.join(timeout_s)
        warnings = list(self._warnings)
        if self._thread.is_alive():
            warnings.append(
                f"MLflow at {masked(self._uri)} had not taken everything after {timeout_s:g} s: "
                f"{self._events.qsize()} events are not written (the sweep's own ledger has them all)"
            )
        return warnings

    def _put(self, event: _Event) -> None:
        if not self._closed:
            self._events.put(event)

    def _write(self) -> None:
        """The writer thread: nothing may escape from here."""
        try:
            recorder = self._open()
            if recorder is None:
                return
            while (event := self._next(recorder)) is not None:
                self._guard(lambda event=event: event(recorder))  # type: ignore[misc]
            self._guard(recorder.flush)
        except BaseException as error:  # a SystemExit of a library must not end up on the screen either
            self._warn(error)

    def _open(self) -> Recorder | None:
        try:
            set_environment()
            open_log(self._log_path, self._redact)
            return open_store(self._uri, self._experiment, self._redact)
        except Exception as error:
            self._warn(error)
            return None

    def _next(self, recorder: Recorder) -> _Event | None:
        while True:
            try:
                event = self._events.get(timeout=_FLUSH_S)
            except queue.Empty:
                self._guard(recorder.flush)
                continue
            if recorder.oldest_s > _FLUSH_S:
                self._guard(recorder.flush)
            return event

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._warn(error)

    def _warn(self, error: BaseException) -> None:
        _log.error("MLflow refused a record", exc_info=error)
        said = self._redact(" ".join(str(error).split()))[:300] or type(error).__name__
        place = masked(self._uri)
        self._warnings[f"MLflow at {place}: {said} (details in {self._log_path})"] = None
