"""The problems of a data set or model, gathered so that all are told at once."""

from __future__ import annotations

from sweeper.errors import DataError, Problem

__all__ = ["PROBLEM_LIMIT", "Problems", "shortened"]

PROBLEM_LIMIT = 20
"""So many problems are told in full; the rest is a number."""

_VALUE_CHARACTERS = 80
_LOOKED_AT_CHARACTERS = 1000


class Problems:
    """A growing list of problems that keeps the first ``PROBLEM_LIMIT`` and counts the rest.

    A broken row is a problem only where there are more than ``max_bad_rows`` of them; anything else
    always is.
    """

    def __init__(self, max_bad_rows: int = 0) -> None:
        self._max_bad_rows = max_bad_rows
        self._others, self._rows = _Tally(), _Tally()

    def __len__(self) -> int:
        return len(self._others) + len(self._rows)

    @property
    def bad_rows(self) -> int:
        """Broken rows, whether they may be left out or not."""
        return len(self._rows)

    def add(self, *, where: str, value: object, rule: str, remedy: str) -> None:
        """Note one problem; its value is shortened to a line."""
        self._others.add(where, value, rule, remedy)

    def add_row(self, *, where: str, value: object, rule: str, remedy: str) -> None:
        """Note one broken row, which is left out."""
        self._rows.add(where, value, rule, remedy)

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
        self._kept: list[Problem] = []
        self._total = 0
        self._last_place = ""

    def __len__(self) -> int:
        return self._total

    def add(self, where: str, value: object, rule: str, remedy: str) -> None:
        self._total += 1
        self._last_place = where
        if len(self._kept) < PROBLEM_LIMIT:
            self._kept.append(Problem(where=where, value=shortened(value), rule=rule, remedy=remedy))

    def told(self) -> tuple[Problem, ...]:
        more = self._total - len(self._kept)
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
