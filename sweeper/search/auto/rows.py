"""The trials of a sweep as arrays, a row for each, so that a question to ten thousand of them is a few
sums."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sweeper.search.auto.curves import Curve, part_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Phase", "Rows", "SeenTrial"]

_JUDGED_FROM = ((3, 0.05), (2, 0.2))
"""A trial is judged after so many evaluations, when so much of its training is over: one of the two. A late
learner looks hopeless in its first tenth, and two evaluations are one difference."""
_UNSEEN = -1


class Phase(IntEnum):
    """Where a trial is."""

    RUNNING = 0
    PAUSED = 1
    ENDED = 2
    STOPPED = 3
    """Ended before its time, by another stopper or a budget."""
    FAILED = 4
    """It diverged: as bad as can be."""

    @property
    def is_over(self) -> bool:
        return self >= Phase.ENDED


@dataclass(frozen=True, kw_only=True)
class SeenTrial:
    """One trial as the search sees it. A trial that failed for no fault of its values is not seen at all."""

    number: int
    point: NDArray[np.float64]
    """(columns,) in the unit box."""
    curve: Curve
    phase: Phase
    control: bool = False
    """Never paused, so that its curve shows how curves end."""
    best_seen_after: int = 0
    """How many trials had been started when its best loss was measured, where ``Standing`` is not told
    otherwise."""
    cost: float | None = None
    """What it has come to or will in the second objective, smaller is better: the logarithm of a cost, a
    metric as it is; None where that is not known, or there is no second objective."""
    excesses: tuple[float, ...] = ()
    """By how much it exceeds each bound where it is judged, above 0 where it does; empty where that is not
    known, or there are no constraints. The curve has infinite losses where it breaks one."""
    measured: float | None = None
    """The loss that it is judged by, also where it breaks a constraint."""

    @property
    def is_judged(self) -> bool:
        """Whether enough of its curve was seen."""
        seen, position = len(self.curve.losses), self.curve.position
        return any(seen >= evaluations and position >= part for evaluations, part in _JUDGED_FROM)


_COLUMNS: dict[str, Any] = {
    "numbers": np.int64,
    "phases": np.int8,
    "evaluations": np.int64,
    "is_judged": np.bool_,
    "is_control": np.bool_,
    "is_broken": np.bool_,
    "parts": np.int64,
    **dict.fromkeys(("best", "last", "reached", "to_fall", "ahead", "cost", "measured"), np.float64),
}


class Rows:
    """Some rows may be empty, of trials that are not seen; iteration passes over them.

    ``numbers``, ``phases`` (``Phase``, or -1 of an empty row), ``evaluations``, ``is_judged``,
    ``is_control``, ``is_broken`` (a constraint), ``cost`` and ``measured`` (not a number where there is
    none), ``best`` and ``last`` are of each trial as in ``SeenTrial``, (n,). The model of curves asks for
    ``reached``, the loss that counts as reached, ``to_fall``, what is to come beside the resolution,
    ``parts`` and ``ahead``: see ``Curve``; they mean nothing before the second evaluation.
    """

    numbers: NDArray[np.int64]
    phases: NDArray[np.int8]
    evaluations: NDArray[np.int64]
    is_judged: NDArray[np.bool_]
    is_control: NDArray[np.bool_]
    is_broken: NDArray[np.bool_]
    parts: NDArray[np.int64]
    best: Array
    last: Array
    reached: Array
    to_fall: Array
    ahead: Array
    cost: Array
    measured: Array
    points: Array
    """(n, columns)."""

    def __init__(self, at: Literal["best", "end"]) -> None:
        self.trials: list[SeenTrial | None] = []
        self.index: dict[int, int] = {}
        """Number of a trial -> its row."""
        self.seen = 0
        """How many rows are not empty."""
        self.has_bounds = False
        self._at, self._room = at, 0
        self._arrays: dict[str, NDArray[Any]] = {}
        self._asked: Counter[bytes] = Counter()
        self._grow(0)
        self.put([])

    @classmethod
    def of(cls, trials: Sequence[SeenTrial], at: Literal["best", "end"]) -> Rows:
        rows = cls(at)
        rows.put(enumerate(trials))
        return rows

    def __iter__(self) -> Iterator[SeenTrial]:
        return (trial for trial in self.trials if trial is not None)

    def __len__(self) -> int:
        return self.seen

    def excesses(self, place: int) -> tuple[float, ...]:
        """Of the trial in this row."""
        trial = self.trials[place]
        return () if trial is None else trial.excesses

    def is_asked(self, point: bytes) -> bool:
        """Whether a trial lies there."""
        return self._asked[point] > 0

    def put(self, rows: Iterable[tuple[int, SeenTrial | None]]) -> None:
        """Fill rows, new ones in their order, or replace what is in them."""
        for place, trial in rows:
            if place == len(self.trials):
                self.trials.append(None)
            before, self.trials[place] = self.trials[place], trial
            if before is not None:
                self.seen -= 1
                self._asked[before.point.tobytes()] -= 1
            self._write(place, trial)
        for name, array in self._arrays.items():
            setattr(self, name, array[: len(self.trials)])

    def _write(self, place: int, trial: SeenTrial | None) -> None:
        columns = self._arrays["points"].shape[1]
        if place >= self._room or (trial is not None and columns != len(trial.point)):
            self._grow(len(trial.point) if trial is not None else columns)
        arrays = self._arrays
        arrays["phases"][place] = _UNSEEN if trial is None else trial.phase
        if trial is None:
            return
        self.seen += 1
        self.index[trial.number] = place
        self._asked[trial.point.tobytes()] += 1
        self.has_bounds = self.has_bounds or bool(trial.excesses)
        for name, value in _row(trial, self._at).items():
            arrays[name][place] = value
        arrays["points"][place] = trial.point

    def _grow(self, columns: int) -> None:
        self._room = max(64, 2 * len(self.trials))
        shapes = dict.fromkeys(_COLUMNS, (self._room,)) | {"points": (self._room, columns)}
        for name, shape in shapes.items():
            wider = np.zeros(shape, _COLUMNS.get(name, np.float64))
            before = self._arrays.get(name)
            if before is not None and before.shape[1:] == shape[1:]:
                wider[: len(before)] = before
            self._arrays[name] = wider


def _row(trial: SeenTrial, at: Literal["best", "end"]) -> dict[str, Any]:
    curve = trial.curve
    row = {
        "numbers": trial.number,
        "evaluations": len(curve.losses),
        "is_judged": trial.is_judged,
        "is_control": trial.control,
        "is_broken": any(one > 0 for one in trial.excesses),
        "best": curve.best,
        "last": curve.losses[-1] if curve.losses else math.inf,
        "cost": math.nan if trial.cost is None else trial.cost,
        "measured": math.nan if trial.measured is None else trial.measured,
    }
    if len(curve.losses) >= 2:
        base = curve.as_judged(at)
        row |= {
            "reached": base.best,
            "to_fall": base.reach(0.0),
            "parts": part_of(base.position),
            "ahead": base.schedule_ahead,
        }
    return row
