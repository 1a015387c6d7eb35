"""One board: what it is told, in a thread of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeper.space import write_whole
from sweeper.track.points import MetricPoint, Points
from sweeper.track.run_writer import INTERRUPTED

__all__ = ["Board", "BoardTrial", "BoardWriter"]

_MOST_FAILURES = 3
"""So many in a row, and a board is not tried again."""

_log = logging.getLogger("sweeper.track")


@dataclass(frozen=True, kw_only=True)
class BoardTrial:
    """What a board is told of a trial when it starts."""

    number: int
    name: str
    searched: Mapping[str, Any]
    params: Mapping[str, Any]
    """All settings, the searched ones among them; flat."""
    tags: Mapping[str, str]
    config_yaml: str
    from_tokens: int
    """Nothing up to here is told again; -1 of a trial that is new to the board."""
    at_s: float | None


class Board:
    """The base of each kind of board. All calls come from one thread, and may raise anything."""

    def trial_started(self, trial: BoardTrial) -> None:
        """Begin a run, or go on with it."""

    def log(self, number: int, tokens: int, values: Mapping[str, float], time_s: float) -> None:
        """All metrics of one moment; ``tokens`` is the step, and grows from call to call of a trial."""

    def trial_finished(
        self, number: int, state: str, reason: str | None, metrics: Mapping[str, float]
    ) -> None:
        """End a run; ``state`` is a trial's, or INTERRUPTED where it will go on."""

    def flush(self) -> None:
        """What was logged is kept if this process dies."""

    def close(self) -> None:
        """Nothing follows."""

    def abandon(self) -> None:
        """Nobody waits any longer for a call that is under way. Called by another thread."""


@dataclass(kw_only=True)
class _Written:
    """How far a trial was written to a board."""

    tokens: int = -1
    done: bool = False


_Event = Callable[[Board], None]


class BoardWriter:
    """Hands a sweep's events to one board, in a thread of its own; never waits for it, and raises nothing.

    The methods that tell of events are those of Tracker.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Board],
        notes: Path,
        *,
        remedy: str,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``notes``: the file that says how far each trial was written. ``warn`` is told at once of what
        :meth:`close` returns in the end."""
        self._name, self._make, self._notes_file = name, make, notes
        self._remedy, self._warn = remedy, warn
        self._written = _read_notes(notes)
        self._open: set[int] = set()
        self._warnings: dict[str, None] = {}
        self._board: Board | None = None
        self._failures = 0
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name=f"{name}-writer", daemon=True)
        self._thread.start()

    def trial_started(
        self,
        number: int,
        *,
        name: str,
        searched: dict[str, Any],
        fixed: dict[str, Any],
        config_yaml: str,
        tags: dict[str, str],
        at_s: float | None = None,
    ) -> None:
        """See Tracker."""
        params = {**fixed, **searched}

        def start(board: Board) -> None:
            if number in self._open or self._note(number).done:
                return
            trial = BoardTrial(
                number=number,
                name=name,
                searched=searched,
                params=params,
                tags=tags,
                config_yaml=config_yaml,
                from_tokens=self._note(number).tokens,
                at_s=at_s,
            )
            board.trial_started(trial)
            self._failures = 0
            self._open.add(number)

        self._events.put(start)

    def metrics(self, number: int, points: Points) -> None:
        """See Tracker."""
        copy = points if callable(points) else tuple(points)

        def log(board: Board) -> None:
            if number not in self._open:
                return
            note = self._note(number)
            for tokens, moment in _moments(copy() if callable(copy) else copy):
                if tokens > note.tokens:
                    board.log(number, tokens, {p.name: p.value for p in moment}, moment[-1].time_s)
                    note.tokens = tokens
            self._keep_notes(board)

        self._events.put(log)

    def trial_finished(
        self,
        number: int,
        *,
        state: str,
        reason: str | None,
        metrics: dict[str, float],
        at_s: float | None = None,
    ) -> None:
        """See Tracker."""

        def finish(board: Board) -> None:
            if number in self._open:
                self._open.discard(number)
                board.trial_finished(number, state, reason, metrics)
                self._note(number).done = True
                self._keep_notes(board)

        self._events.put(finish)

    def trial_paused(self, number: int, *, reason: str | None) -> None:
        """Its run stays open."""

    def close(self, timeout_s: float) -> list[str]:
        """Waits until everything is written, ``timeout_s`` at most; returns what went wrong, in sentences."""
        self._events.put(None)
        self._thread.join(min(timeout_s, threading.TIMEOUT_MAX))
        if self._thread.is_alive():
            self._say(f"had not taken everything after {timeout_s:.0f} s")
            if self._board is not None:
                self._board.abandon()
        return list(self._warnings)

    # The writer's thread ---------------------------------------------------------------------

    def _write(self) -> None:
        while (event := self._events.get()) is not None:
            if self._failures < _MOST_FAILURES:
                with self._guarded():
                    self._board = self._board or self._make()
                    event(self._board)
        if self._board is None:
            return
        for number in sorted(self._open):
            with self._guarded():
                self._board.trial_finished(number, INTERRUPTED, None, {})
        with self._guarded():
            self._board.close()

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        try:
            yield
        except BaseException as error:  # whatever a foreign library raises, a SystemExit included
            self._failures += 1
            _log.error("%s refused a record", self._name, exc_info=error)
            self._say(" ".join(str(error).split())[:300] or type(error).__name__)

    def _say(self, what: str) -> None:
        said = f"{self._name}: {what} (MLflow has it all; write it later with: {self._remedy})"
        if said not in self._warnings:
            self._warnings[said] = None
            self._warn(said)

    def _note(self, number: int) -> _Written:
        return self._written.setdefault(number, _Written())

    def _keep_notes(self, board: Board) -> None:
        board.flush()
        tree = {str(number): asdict(note) for number, note in self._written.items()}
        write_whole(self._notes_file, json.dumps(tree))


def _moments(points: Sequence[MetricPoint]) -> list[tuple[int, list[MetricPoint]]]:
    """Points by tokens, in the order of tokens: what belongs to one moment is told at once."""
    moments: dict[int, list[MetricPoint]] = {}
    for point in points:
        moments.setdefault(point.step, []).append(point)
    return sorted(moments.items())


def _read_notes(file: Path) -> dict[int, _Written]:
    try:
        return {int(number): _Written(**note) for number, note in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
