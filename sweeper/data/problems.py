"""The problems of a data set or model, gathered so that all are told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sweeper.errors import DataError, Problem

__all__ = ["PROBLEM_LIMIT", "Problems", "Unusable", "shortened"]

PROBLEM_LIMIT = 20
"""So many problems are told in full; the rest is a number."""

_VALUE_CHARACTERS = 80
_LOOKED_AT_CHARACTERS = 1000


class Unusable(Exception):
    """Why a row, a file or a folder cannot be used, and ``where``, if that is not for the caller to say."""

    def __init__(self, rule: str, remedy: str, value: object = "", where: str = "") -> None:
        super().__init__(rule, remedy, value, where)
        self.rule, self.remedy, self.value, self.where = rule, remedy, value, where

    def problem(self, where: str) -> Problem:
        """What is told of it."""
        value = shortened(self.value)
        return Problem(where=self.where or where, value=value, rule=self.rule, remedy=self.remedy)


class Problems:
    """A growing list of problems that keeps the first ``PROBLEM_LIMIT`` and counts the rest.

    A broken row is a problem only where there are more than ``max_bad_rows`` of them; anything else
    always is.
    """

    def __init__(self, max_bad_rows: int = 0) -> None:
        self._max_bad_rows = max_bad_rows
        self._others, self._rows = _Tally(), _Tally()

    def __len__(self) -> int:
        return self._others.total + self._rows.total

    @property
    def bad_rows(self) -> int:
        """Broken rows, whether they may be left out or not."""
        return self._rows.total

    def add(self, where: str, rule: str, remedy: str, value: object = "") -> None:
        """Note one problem; its value is shortened to a line."""
        self._others.add(where, Unusable(rule, remedy, value))

    @contextmanager
    def noting(self, where: str, *, row: bool = False) -> Iterator[None]:
        """Note what the block raises as ``Unusable``: a problem, or a broken row, which is left out."""
        try:
            yield
        except Unusable as found:
            (self._rows if row else self._others).add(where, found)

    def take(self, later: Problems) -> None:
        """Add those that were noted elsewhere, after these."""
        self._others.take(later._others)
        self._rows.take(later._rows)

    def told(self) -> tuple[Problem, ...]:
        """The problems as they are shown: the first ones, then how many more there are."""
        if self.bad_rows <= self._max_bad_rows:
            return self._others.told()
        told = (*self._others.told(), *self._rows.told())
        if not self._max_bad_rows:
            return told
        limit = Problem(
            where="max_bad_rows",
            value=str(self._max_bad_rows),
            rule=f"{self.bad_rows:,} rows are broken",
            remedy="mend them, or raise max_bad_rows to leave them out",
        )
        return (*told, limit)

    def told_bad_rows(self) -> tuple[Problem, ...]:
        """The broken rows, in the same way."""
        return self._rows.told()

    def raise_if_any(self) -> None:
        """Raises: DataError with every problem so far; broken rows only where they are too many."""
        told = self.told()
        if told:
            raise DataError(told)


class _Tally:
    """The first problems of one kind in full, and the number of all."""

    def __init__(self) -> None:
        self.total = 0
        self._kept: list[Problem] = []
        self._last_place = ""

    def add(self, where: str, found: Unusable) -> None:
        self.total += 1
        self._last_place = found.where or where
        if len(self._kept) < PROBLEM_LIMIT:
            self._kept.append(found.problem(where))

    def take(self, later: _Tally) -> None:
        self.total += later.total
        self._last_place = later._last_place or self._last_place
        self._kept += later._kept[: PROBLEM_LIMIT - len(self._kept)]

    def told(self) -> tuple[Problem, ...]:
        more = self.total - len(self._kept)
        if not more:
            return tuple(self._kept)
        rest = Problem(
            where=self._last_place,
            value="",
            rule=f"the last of {more} more problem{'s' if more > 1 else ''} like these",
            remedy="mend the ones above first",
        )
        return (*self._kept, rest)


def shortened(value: object) -> str:
    """The value on one line, cut to what a message can carry, with nothing that no file can hold."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[:_LOOKED_AT_CHARACTERS].split())
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 3] + "..."
