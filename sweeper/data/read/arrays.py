"""Arrays of JSON -> their items, one after another: no more is held than a piece, or one long item."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.files import Source
from sweeper.data.read.parse import Row, TwiceError, around, as_object, once_each

__all__ = ["array_rows"]

_SPACE = re.compile(r"[ \t\n\r]*")
_LONGEST_WORD = 16
"""An error so many characters before the end of a piece may be one of where the piece was cut off."""


def array_rows(source: Source, texts: Iterator[str], problems: Problems) -> Iterator[Row]:
    """The items of the one array that the texts hold together. Raises: Unusable where it is broken."""
    window = _Window(texts)
    try:
        for number, item in enumerate(_items(window), start=1):
            place = f"item {number}"
            with problems.noting(f"{source.name}:{place}", row=True):
                if isinstance(item, TwiceError):
                    raise Unusable(str(item), "keep one of the two")
                yield Row(as_object(item), source.name, place)
    except json.JSONDecodeError as error:
        line, column = window.place(error.pos)
        raise Unusable(
            f"the JSON array is broken: {error.msg.lower()} at column {column}",
            "mend it there: no item can be left out of it; or write one JSON object a line",
            value=around(error),
            where=f"{source.name}:{line}",
        ) from error
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not usable JSON: {error}", "mend the file") from error


class _Window:
    """What is held of a text: a stretch of it, of which the part before ``start`` is done."""

    def __init__(self, texts: Iterator[str]) -> None:
        self.text, self.start = "", 0
        self._texts, self._ended = texts, False
        self._line, self._column = 1, 1
        """Of the first character that is held."""

    def place(self, position: int) -> tuple[int, int]:
        """Line and column of a character."""
        lines = self.text.count("\n", 0, position)
        column = position - self.text.rfind("\n", 0, position) if lines else self._column + position
        return self._line + lines, column

    def next_mark(self) -> str:
        """The next character that is no white space; nothing where the text ends."""
        while True:
            self.start = _SPACE.match(self.text, self.start).end()  # type: ignore[union-attr]  # it always matches
            if self.start < len(self.text):
                return self.text[self.start]
            if not self._more(1):
                return ""

    def next_value(self) -> object:
        """The next value; a TwiceError in place of one with a key that stands twice.

        Raises: ValueError, RecursionError.
        """
        self.next_mark()
        while True:
            try:
                value, end = _value(self.text, self.start)
            except json.JSONDecodeError as error:
                # As much again as there is: a long item is not begun anew with each piece.
                if self._is_cut_off(error) and self._more(len(self.text) - self.start):
                    continue
                raise
            if end < len(self.text) or not self._more(1):  # else a number may go on
                self.start = end
                return value

    def _is_cut_off(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _LONGEST_WORD

    def _more(self, characters: int) -> bool:
        """Holds so many characters more, where there are any; forgets those that are done."""
        more: list[str] = []
        while not self._ended and sum(map(len, more)) < characters:
            text = next(self._texts, None)
            self._ended = text is None
            more += [] if text is None else [text]
        if any(more):
            self._line, self._column = self.place(self.start)
            self.text, self.start = "".join((self.text[self.start :], *more)), 0
        return any(more)


def _items(window: _Window) -> Iterator[object]:
    """Raises: ValueError, RecursionError."""
    window.next_mark()
    window.start += 1  # the bracket by which the file was recognised
    mark = window.next_mark()
    while mark != "]":
        yield window.next_value()
        mark = window.next_mark()
        if mark == ",":
            window.start += 1
        elif mark != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", window.text, window.start)
    window.start += 1
    if window.next_mark():
        raise json.JSONDecodeError("Extra data", window.text, window.start)


def _value(text: str, start: int) -> tuple[object, int]:
    try:
        return _STRICT.raw_decode(text, start)
    except TwiceError as error:
        return error, _LOOSE.raw_decode(text, start)[1]


_STRICT, _LOOSE = json.JSONDecoder(object_pairs_hook=once_each), json.JSONDecoder()
