"""Rows of the sources, with the place of each; what is broken is named by file and line.

Lines end at ``\\n`` and nowhere else. ``str.splitlines`` and text files opened with universal
newlines also break at characters that a JSON string may hold (U+2029, a bare carriage return).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sweeper.data.problems import Problems
from sweeper.data.read.files import Source, extension, sources_of
from sweeper.data.read.tables import Row, dataset_rows, parquet_rows

__all__ = ["Row", "read_rows", "rows_of"]

_LONGEST_LINE_BYTES = 2**26
"""A line of JSON that is longer is not parsed, which would take several times its size."""

_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[\s,]*")

_CSV_FIELD_CHARACTERS = 2**31 - 1
"""A field of a CSV may be this long; the module's own limit, 131,072, is shorter than some documents."""


def rows_of(*data_paths: str) -> list[Row]:
    """Every row of the paths.

    Raises: DataError with all problems of all files.
    """
    problems = Problems()
    sources = [source for group in sources_of(data_paths, problems) for source in group]
    rows = [row for source in sources for row in read_rows(source, problems)]
    problems.raise_if_any()
    return rows


def read_rows(source: Source, problems: Problems) -> list[Row]:
    """Every row of one source that can be read; what cannot is added to ``problems``."""
    before = len(problems)
    if source.path is None or source.layout != "file":
        rows = list(dataset_rows(source, problems))
    else:
        try:
            rows = list(_reader(source.path)(source, source.path, problems))
        except OSError as error:
            problems.add(
                where=source.name,
                value="",
                rule=f"the file cannot be read: {error.strerror or error}",
                remedy="check its permissions",
            )
            return []
    if not rows and len(problems) == before:
        problems.add(where=source.name, value="", rule="it holds no rows", remedy="name data that has rows")
    return rows


_Reader = Callable[[Source, Path, Problems], Iterator[Row]]


def _reader(path: Path) -> _Reader:
    kind = extension(path).removesuffix(".gz")
    if kind == ".csv":
        return _csv_rows
    if kind == ".parquet":
        return parquet_rows
    return _json_rows


def _text_bytes(source: Source, path: Path, problems: Problems) -> bytes | None:
    """What a text file holds, unpacked and without a byte order mark; None where it is not text."""
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            problems.add(
                where=source.name,
                value="",
                rule=f"the file is not whole gzip: {error}",
                remedy="pack it again",
            )
            return None
    data = data.removeprefix(codecs.BOM_UTF8)
    return None if _is_binary(data, source, problems) else data


def _json_rows(source: Source, path: Path, problems: Problems) -> Iterator[Row]:
    """An array where the file starts with a bracket, else one object a line, whatever the extension."""
    data = _text_bytes(source, path, problems)
    if data is None:
        return
    if data[:4096].lstrip()[:1] == b"[" and not _is_array_on_first_line(data):
        yield from _array_rows(source, data, problems)
        return
    if _is_one_object(data):
        problems.add(
            where=source.name,
            value="",
            rule="the file is one JSON object over several lines, not rows",
            remedy="write an array of objects, or one object a line",
        )
        return
    for number, line in enumerate(_lines(data), start=1):
        if line and not line.isspace():
            fields = _object_of_line(line, f"{source.name}:{number}", problems)
            if fields is not None:
                yield Row(fields, source.name, str(number))


def _lines(data: bytes) -> Iterator[bytes]:
    """One at a time, so that a file is not held twice."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start:end]
        start = end + 1
    yield data[start:]


def _first_line(data: bytes) -> bytes:
    return next((line for line in _lines(data) if line and not line.isspace()), b"")


def _is_array_on_first_line(data: bytes) -> bool:
    """Whether a whole array stands on a line of its own and rows follow: then it is a broken row."""
    line = _first_line(data)
    if len(line) > _LONGEST_LINE_BYTES or not data[data.find(line) + len(line) :].strip():
        return False
    return _value_of(line) is not None


def _is_one_object(data: bytes) -> bool:
    """Whether the first line is no object by itself, and all lines together are one."""
    if len(data) > _LONGEST_LINE_BYTES or _value_of(_first_line(data)) is not None:
        return False
    return isinstance(_value_of(data), dict)


def _value_of(text: bytes) -> object:
    """What JSON holds; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_binary(data: bytes, source: Source, problems: Problems) -> bool:
    place = data.find(b"\0")
    if data.startswith(_GZIP):
        where, rule, remedy = source.name, "it is a binary file, packed by gzip", "let its name end with .gz"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and place >= 0:
        where, rule, remedy = source.name, "it is UTF-16 text", "save it as UTF-8"
    elif place >= 0:
        where = f"{source.name}:{data.count(bytes((10,)), 0, place) + 1}"
        rule = "it is a binary file, not text: it holds a byte 0x00"
        remedy = "name a text file, or give a Parquet file its extension"
    else:
        return False
    problems.add(where=where, value="", rule=rule, remedy=remedy)
    return True


def _object_of_line(line: bytes, where: str, problems: Problems) -> dict[str, Any] | None:
    if len(line) > _LONGEST_LINE_BYTES:
        problems.add_row(
            where=where,
            value=f"{len(line):,} bytes",
            rule=f"a line has at most {_LONGEST_LINE_BYTES:,} bytes",
            remedy="cut it, or split it into several rows",
        )
        return None
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_once_each)
    except UnicodeDecodeError as error:
        problems.add_row(
            where=where,
            value=f"byte 0x{line[error.start]:02x}",
            rule=f"the line is not UTF-8 at byte {error.start + 1}",
            remedy="save the file as UTF-8",
        )
        return None
    except json.JSONDecodeError as error:
        problems.add_row(
            where=where,
            value=_around(error.doc, error.pos),
            rule=f"the line is not JSON: {error.msg.lower()} at column {error.colno}",
            remedy="write one complete JSON object on the line",
        )
        return None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; deep nesting
        problems.add_row(
            where=where, value="", rule=f"the line is not usable JSON: {error}", remedy="mend the line"
        )
        return None
    return _object(value, where, problems)


class _TwiceError(ValueError):
    """A key stands twice in an object, and one of its values would be lost."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises: _TwiceError."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return fields


def _object(value: object, where: str, problems: Problems) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    problems.add_row(
        where=where,
        value=json.dumps(value),
        rule="a row is a JSON object",
        remedy="write it as an object with named fields",
    )
    return None


def _around(text: str, position: int) -> str:
    return text[max(0, position - 20) : position + 20].strip()


def _add_not_utf8(source: Source, data: bytes, error: UnicodeDecodeError, problems: Problems) -> None:
    line = data.count(b"\n", 0, error.start) + 1
    problems.add(
        where=f"{source.name}:{line}",
        value=f"byte 0x{data[error.start]:02x}",
        rule="the file is not UTF-8",
        remedy="save it as UTF-8",
    )


def _array_rows(source: Source, data: bytes, problems: Problems) -> Iterator[Row]:
    try:
        items = _items(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        _add_not_utf8(source, data, error, problems)
        return
    except json.JSONDecodeError as error:
        problems.add(
            where=f"{source.name}:{error.lineno}",
            value=_around(error.doc, error.pos),
            rule=f"the JSON array is broken: {error.msg.lower()} at column {error.colno}",
            remedy="mend it there: no item can be left out of it; or write one JSON object a line",
        )
        return
    except (ValueError, RecursionError) as error:
        problems.add(where=source.name, value="", rule=f"not usable JSON: {error}", remedy="mend the file")
        return
    for number, item in enumerate(items, start=1):
        where = f"{source.name}:item {number}"
        if isinstance(item, _TwiceError):
            problems.add_row(where=where, value="", rule=str(item), remedy="keep one of the two")
        elif (fields := _object(item, where, problems)) is not None:
            yield Row(fields, source.name, f"item {number}")


def _items(text: str) -> list[object]:
    """The items of an array; a _TwiceError in place of one with a key that stands twice.

    Raises: ValueError, RecursionError.
    """
    try:
        items = json.loads(text, object_pairs_hook=_once_each)
    except _TwiceError:
        json.loads(text)  # all else is right
        return list(_one_by_one(text, text.index("[") + 1))
    return items if isinstance(items, list) else [items]


def _one_by_one(text: str, start: int) -> Iterator[object]:
    decoders = json.JSONDecoder(object_pairs_hook=_once_each), json.JSONDecoder()
    while text[start := _SPACE.match(text, start).end()] != "]":  # type: ignore[union-attr]  # it always matches
        item: object
        try:
            item, start = decoders[0].raw_decode(text, start)
        except _TwiceError as error:
            item, start = error, decoders[1].raw_decode(text, start)[1]
        yield item


def _csv_rows(source: Source, path: Path, problems: Problems) -> Iterator[Row]:
    data = _text_bytes(source, path, problems)
    if data is None:
        return
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _add_not_utf8(source, data, error, problems)
        return
    limit = csv.field_size_limit(_CSV_FIELD_CHARACTERS)
    try:
        yield from _csv_records(source, text, problems)
    finally:
        csv.field_size_limit(limit)


def _csv_records(source: Source, text: str, problems: Problems) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    first_line = 1
    header: list[str] | None = None
    try:
        for record in reader:
            where, first_line = f"{source.name}:{first_line}", reader.line_num + 1
            if not record:
                continue
            if header is None:
                header = [name.strip() for name in record]
                if len(set(header)) < len(header) or not all(header):
                    problems.add(
                        where=where,
                        value=",".join(record),
                        rule="the first line names each column, once",
                        remedy="give every column its own name",
                    )
                    return
            elif len(record) != len(header):
                problems.add_row(
                    where=where,
                    value=",".join(record),
                    rule=f"the row has {len(record)} fields, the header {len(header)}",
                    remedy="quote fields that hold commas, quotes or line ends",
                )
            else:
                yield Row(dict(zip(header, record, strict=True)), source.name, where.rpartition(":")[2])
    except csv.Error as error:
        problems.add(
            where=f"{source.name}:{first_line}",
            value="",
            rule=f"the CSV is broken: {error}",
            remedy="quote fields that hold quotes or line ends, and double the quotes inside",
        )
