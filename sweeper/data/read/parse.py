"""Texts of files -> rows, with the place of each; what is broken is named by file and line.

Lines end at ``\n`` and nowhere else. ``str.splitlines`` and text files opened with universal
newlines also break at characters that a JSON string may hold (U+2029, a bare carriage return).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.files import Source

__all__ = [
    "LONGEST_LINE_BYTES",
    "Row",
    "TwiceError",
    "around",
    "as_object",
    "at",
    "csv_rows",
    "is_array_on_first_line",
    "is_one_object",
    "line_rows",
    "once_each",
    "starts_with_json",
]

LONGEST_LINE_BYTES = 2**26
"""A line of JSON that is longer is not parsed, which would take several times its size."""

_CSV_FIELD_CHARACTERS = 2**31 - 1
"""A field of a CSV may be this long; the module's own limit, 131,072, is shorter than some documents."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read."""

    fields: dict[str, Any]
    source: str
    """The file, folder or hub id."""
    place: str
    """Where in the source: a line number, or ``item 3`` of an array."""

    @property
    def where(self) -> str:
        return f"{self.source}:{self.place}"


def at(source: Source, data: bytes, position: int, first: int = 1) -> str:
    """The place of a byte of lines that begin with the number ``first``."""
    line = data.count(b"\n", 0, position) + first
    return f"{source.name}:{line}"


def line_rows(source: str, lines: bytes, first: int, problems: Problems) -> Iterator[Row]:
    """The rows of whole lines, of which the first has the number ``first``."""
    for number, line in enumerate(lines.split(b"\n"), start=first):
        if line and not line.isspace():
            with problems.noting(f"{source}:{number}", row=True):
                yield Row(_object_of_line(line), source, str(number))


def _first_line(data: bytes) -> bytes:
    return next((line for line in _lines(data) if line and not line.isspace()), b"")


def _lines(data: bytes) -> Iterator[bytes]:
    """One at a time, so that a file is not held twice."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start:end]
        start = end + 1
    yield data[start:]


def is_array_on_first_line(data: bytes) -> bool:
    """Whether a whole array stands on a line of its own and rows follow: then it is a broken row."""
    line = _first_line(data)
    if len(line) > LONGEST_LINE_BYTES or not data[data.find(line) + len(line) :].strip():
        return False
    return _value_of(line) is not None


def starts_with_json(data: bytes) -> bool:
    """Whether the first line is a value of JSON by itself."""
    return _value_of(_first_line(data)) is not None


def is_one_object(data: bytes) -> bool:
    """Whether the first line is no object by itself, and all lines together are one."""
    if len(data) > LONGEST_LINE_BYTES or starts_with_json(data):
        return False
    return isinstance(_value_of(data), dict)


def _value_of(text: bytes) -> object:
    """What JSON holds; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object_of_line(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST_LINE_BYTES:
        raise Unusable(
            f"a line has at most {LONGEST_LINE_BYTES:,} bytes",
            "cut it, or split it into several rows",
            value=f"{len(line):,} bytes",
        )
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=once_each)
    except UnicodeDecodeError as error:
        raise Unusable(
            f"the line is not UTF-8 at byte {error.start + 1}",
            "save the file as UTF-8",
            value=f"byte 0x{line[error.start]:02x}",
        ) from error
    except json.JSONDecodeError as error:
        raise Unusable(
            f"the line is not JSON: {error.msg.lower()} at column {error.colno}",
            "write one complete JSON object on the line",
            value=around(error),
        ) from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; deep nesting
        raise Unusable(f"the line is not usable JSON: {error}", "mend the line") from error
    return as_object(value)


class TwiceError(ValueError):
    """A key stands twice in an object, and one of its values would be lost."""


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises: TwiceError."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise TwiceError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return fields


def as_object(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Unusable(
        "a row is a JSON object", "write it as an object with named fields", value=json.dumps(value)
    )


def around(error: json.JSONDecodeError) -> str:
    return error.doc[max(0, error.pos - 20) : error.pos + 20].strip()


def csv_rows(source: Source, texts: Iterable[str], problems: Problems) -> Iterator[Row]:
    """The rows of a table, of which no more is held than a text. Raises: Unusable where it is broken."""
    limit = csv.field_size_limit(_CSV_FIELD_CHARACTERS)
    try:
        yield from _csv_records(source, texts, problems)
    finally:
        csv.field_size_limit(limit)


def _lines_of(texts: Iterable[str]) -> Iterator[str]:
    """Lines as ``csv`` wants them, with their ends, whichever these are."""
    kept: list[str] = []
    for text in texts:
        end = text.rfind("\n") + 1
        if end:
            yield from io.StringIO("".join((*kept, text[:end])), newline="")
            kept = []
        kept.append(text[end:])
    yield from io.StringIO("".join(kept), newline="")


def _csv_records(source: Source, texts: Iterable[str], problems: Problems) -> Iterator[Row]:
    reader = csv.reader(_lines_of(texts), strict=True)
    next_line = 1
    header: list[str] = []
    try:
        for record in reader:
            line, next_line = next_line, reader.line_num + 1
            where = f"{source.name}:{line}"
            if record and not header:
                header = _header(record, where)
            elif record:
                with problems.noting(where, row=True):
                    yield Row(_fields(header, record), source.name, str(line))
    except csv.Error as error:
        raise Unusable(
            f"the CSV is broken: {error}",
            "quote fields that hold quotes or line ends, and double the quotes inside",
            where=f"{source.name}:{next_line}",
        ) from error


def _header(record: list[str], where: str) -> list[str]:
    header = [name.strip() for name in record]
    if len(set(header)) == len(header) and all(header):
        return header
    raise Unusable(
        "the first line names each column, once",
        "give every column its own name",
        value=",".join(record),
        where=where,
    )


def _fields(header: list[str], record: list[str]) -> dict[str, Any]:
    if len(record) == len(header):
        return dict(zip(header, record, strict=True))
    raise Unusable(
        f"the row has {len(record)} fields, the header {len(header)}",
        "quote fields that hold commas, quotes or line ends",
        value=",".join(record),
    )
