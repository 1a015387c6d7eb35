"""The sweep's side of MLflow: hands events to one writer thread and never waits for it."""

from __future__ import annotations

import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

from sweeper.track.mlflow_logging import open_log, set_environment
from sweeper.track.outage import Verdict, first_cause, judge
from sweeper.track.run_writer import Content, Recorder
from sweeper.track.store import open_store
from sweeper.track.uri import Redactor, masked

__all__ = ["Tracker"]

P = ParamSpec("P")
_Event = Callable[[Recorder], None]

_FLUSH_S = 2.0
"""Metrics wait at most this long: one transaction for many points keeps the writer off the trials' CPU."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
"""Between two attempts at a store that is away; each pause is twice the one before."""
_TRIES = 5
"""How often a store that answers may fail at one record before the record is given up."""
_SILENCE_S, _SILENCE_AWAY_S = 60.0, 5.0
"""How long the end of a sweep waits without anything being written; the second where the store is away."""
_LAST_OUTAGE_S = 3.0
"""An outage that begins at the end of a sweep is given this long to pass."""

_log = logging.getLogger("sweeper.track")


class _StoreAway(Exception):
    """Nobody waits for the store any longer."""


def _later(method: Callable[Concatenate[Recorder, P], None]) -> Callable[Concatenate[Tracker, P], None]:
    """The recorder's method, called by the writer thread."""

    @functools.wraps(method)
    def put(tracker: Tracker, /, *args: P.args, **keywords: P.kwargs) -> None:
        tracker._put(lambda recorder: method(recorder, *args, **keywords))

    return put


class Tracker:
    """Writes a sweep's events to MLflow in the background.

    No method but :meth:`close` waits, and none raises or prints. Methods may be called from any
    thread; events are written in the order of the calls, and what they are given must not change
    until then. While the store cannot be reached they are kept, and written once it is back. What
    MLflow refuses becomes a line in the log and one of the warnings that :meth:`close` returns.

    The ledger stays the only record that counts: a process that dies loses what was still queued, and
    a later one may hand over everything again, since trials that are already finished in MLflow are
    skipped and points that are already there are not written twice.

    The store is created by this process, whole or not at all, while the sweep goes on. Make the
    ledger first: both migrate their databases with alembic, which is not safe in two threads at once.
    """

    def __init__(
        self, *, uri: str, experiment: str, log_path: Path, remedy: str = "sweeper sync DIR"
    ) -> None:
        """``remedy`` is the command that writes later what is not written now."""
        self._uri = uri
        self._experiment = experiment
        self._log_path = log_path
        self._remedy = remedy
        self._redact = Redactor(uri, environment=os.environ)
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._put_events = 0
        self._written_events = 0
        self._recorder: Recorder | None = None
        self._warnings: dict[str, None] = {}
        self._away: str | None = None
        """Why the store cannot be reached, while it cannot."""
        self._away_since = 0.0
        self._closing = threading.Event()
        self._closed_at = 0.0
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    sweep_started = _later(Recorder.sweep_started)
    trial_started = _later(Recorder.trial_started)
    metrics = _later(Recorder.metrics)
    trial_paused = _later(Recorder.trial_paused)
    trial_finished = _later(Recorder.trial_finished)
    sweep_finished = _later(Recorder.sweep_finished)

    def close(self, timeout_s: float) -> list[str]:
        """Waits until everything is written; returns what went wrong, in sentences.

        At most ``timeout_s`` in all, a minute without anything being written, and seconds where the
        store is away.
        """
        if not self._closing.is_set():
            self._events.put(None)
            self._closed_at = time.monotonic()
            self._closing.set()
        waited_s = self._join(timeout_s)
        left = self._put_events - self._written_events
        if self._away is not None:
            problem = f"cannot be reached ({self._away})"
        elif self._thread.is_alive():
            problem = f"had not taken everything after {waited_s:.1f} s"
        else:
            return list(self._warnings)
        lost = f"{max(left, 1)} records are not written there, and the sweep's own ledger has them all"
        return [*self._warnings, f"{self._place()} {problem}: {lost}. Write them later with: {self._remedy}"]

    def content(self) -> Content | None:
        """What MLflow has of the sweep, once :meth:`close` has come back; None where it was never reached."""
        return None if self._recorder is None else self._recorder.content()

    def _put(self, event: _Event) -> None:
        if not self._closing.is_set():
            self._put_events += 1
            self._events.put(event)

    def _join(self, timeout_s: float) -> float:
        """Returns the seconds that it took."""
        began = moved = time.monotonic()
        written = self._written_events
        while self._thread.is_alive():
            now = time.monotonic()
            if self._written_events != written:
                written, moved = self._written_events, now
            silence_s = _SILENCE_S if self._away is None else _SILENCE_AWAY_S
            if now - began >= timeout_s or now - moved >= silence_s:
                break
            self._thread.join(min(0.1, timeout_s - (now - began)))
        return time.monotonic() - began

    # The writer thread -----------------------------------------------------------------------

    def _write(self) -> None:
        """Nothing may escape from here."""
        try:
            self._write_all()
        except _StoreAway:
            _log.error("MLflow did not come back")
        except BaseException as error:  # a SystemExit of a library must not end up on the screen either
            self._warn(error)

    def _write_all(self) -> None:
        set_environment()
        open_log(self._log_path, self._redact)
        self._deliver(self._open)
        recorder = self._recorder
        if recorder is None:
            return
        while (event := self._next(recorder)) is not None:
            self._deliver(functools.partial(event, recorder))
            self._written_events += 1
        self._deliver(recorder.flush)

    def _open(self) -> None:
        self._recorder = open_store(self._uri, self._experiment, self._redact)

    def _next(self, recorder: Recorder) -> _Event | None:
        while True:
            try:
                event = self._events.get(timeout=_FLUSH_S)
            except queue.Empty:
                self._deliver(recorder.flush)
                continue
            if recorder.oldest_s > _FLUSH_S:
                self._deliver(recorder.flush)
            return event

    def _deliver(self, action: Callable[[], None]) -> None:
        """Does it until it is done or refused, however long the store is away.

        Raises _StoreAway when it is away and somebody waits in :meth:`close`.
        """
        tries, pause_s, looked = 0, _FIRST_PAUSE_S, True
        while True:
            began = time.monotonic()
            try:
                if not looked and self._recorder is not None:
                    self._recorder.look_again()
                looked = True
                action()
            except Exception as error:
                verdict = judge(error)
                tries += verdict is Verdict.TROUBLED and looked
                if verdict is Verdict.REFUSED or tries >= _TRIES:
                    self._warn(error)
                    if self._recorder is None or not self._recorder.drop_batch():
                        break
                    tries = 0  # the rest of it may be fine
                    continue
                self._wait(error, began, pause_s)
                pause_s, looked = min(2 * pause_s, _LONGEST_PAUSE_S), False
            else:
                break
        if self._away is not None:
            _log.info("MLflow is back after %.0f s", time.monotonic() - self._away_since)
            self._away = None

    def _wait(self, error: BaseException, attempt_began: float, pause_s: float) -> None:
        now = time.monotonic()
        if self._away is None:
            self._away_since = now
            _log.warning("MLflow cannot be reached: its records wait", exc_info=error)
        self._away = self._said(first_cause(error))
        if not self._closing.wait(pause_s):
            return
        was_last = attempt_began >= self._closed_at
        if was_last and now - self._away_since >= _LAST_OUTAGE_S:
            raise _StoreAway
        if was_last:
            time.sleep(_FIRST_PAUSE_S)

    def _warn(self, error: BaseException) -> None:
        _log.error("MLflow refused a record", exc_info=error)
        details = f"details in {self._log_path}; write it later with: {self._remedy}"
        self._warnings[f"{self._place()}: {self._said(error)} ({details})"] = None

    def _said(self, error: BaseException) -> str:
        return self._redact(" ".join(str(error).split()))[:300] or type(error).__name__

    def _place(self) -> str:
        return f"MLflow at {masked(self._uri)}"
