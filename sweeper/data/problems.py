"""The problems of a data set or model, gathered so that all are told at once."""

from __future__ import annotations

from sweeper.errors import DataError, Problem

__all__ = ["PROBLEM_LIMIT", "Problems", "shortened"]

PROBLEM_LIMIT = 20
"""So many problems are told in full; the rest is a number."""

_VALUE_CHARACTERS = 80


class Problems:
    """A growing list of problems that keeps the first ``PROBLEM_LIMIT`` and counts the rest."""

    def __init__(self) -> None:
        self._kept: list[Problem] = []
        self._total = 0
        self._last_place = ""

    def __len__(self) -> int:
        return self._total

    def add(self, *, where: str, value: object, rule: str, remedy: str) -> None:
        """Note one problem; its value is shortened to a line."""
        self._total += 1
        self._last_place = where
        if len(self._kept) < PROBLEM_LIMIT:
            self._kept.append(Problem(where=where, value=shortened(value), rule=rule, remedy=remedy))

    def told(self) -> tuple[Problem, ...]:
        """The problems as they are shown: the first ones, then how many more there are."""
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

    def raise_if_any(self) -> None:
        """Raises: DataError with every problem so far."""
        if self._total:
            raise DataError(self.told())


def shortened(value: object) -> str:
    """The value on one line, cut to what a message can carry."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 3] + "..."
