"""Rows of the sources, with the place of each; what is broken is named by file and line.

Lines end at ``\n`` and nowhere else. ``str.splitlines`` and text files opened with universal
newlines also break at characters that a JSON string may hold (U+2029, a bare carriage return).
pyarrow and ``datasets`` are imported when needed.
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
from dataclasses import dataclass
from typing import Any

from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.files import Source, extension

__all__ = ["Row", "read_rows"]

_LONGEST_LINE_BYTES = 2**26
"""A line of JSON that is longer is not parsed, which would take several times its size."""

_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[\s,]*")

_CSV_FIELD_CHARACTERS = 2**31 - 1
"""A field of a CSV may be this long; the module's own limit, 131,072, is shorter than some documents."""

_SPLIT = "train"


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


def read_rows(source: Source, problems: Problems) -> list[Row]:
    """Every row of one source that can be read; what cannot is added to ``problems``."""
    before = len(problems)
    rows: list[Row] = []
    with problems.noting(source.name):
        try:
            rows.extend(_reader(source)(source, problems))  # what precedes a broken place stays
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror or error}"
            raise Unusable(reason, "check its permissions") from error
    if not rows and len(problems) == before:
        problems.add(source.name, "it holds no rows", "name data that has rows")
    return rows


def _reader(source: Source) -> Callable[[Source, Problems], Iterator[Row]]:
    if source.layout != "file":
        return _dataset_rows
    kind = extension(source.path).removesuffix(".gz")
    return {".csv": _csv_rows, ".parquet": _parquet_rows}.get(kind, _json_rows)


def _text_bytes(source: Source) -> bytes:
    """What a text file holds, unpacked and without a byte order mark.

    Raises: Unusable where it is not text.
    """
    data = source.path.read_bytes()
    if source.path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise Unusable(f"the file is not whole gzip: {error}", "pack it again") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    zero = data.find(b"\0")
    if data.startswith(_GZIP):
        raise Unusable("it is a binary file, packed by gzip", "let its name end with .gz")
    if zero >= 0 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unusable("it is UTF-16 text", "save it as UTF-8")
    if zero >= 0:
        raise Unusable(
            "it is a binary file, not text: it holds a byte 0x00",
            "name a text file, or give a Parquet file its extension",
            where=_at(source, data, zero),
        )
    return data


def _decoded(source: Source, data: bytes) -> str:
    """Raises: Unusable where it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unusable(
            "the file is not UTF-8",
            "save it as UTF-8",
            value=f"byte 0x{data[error.start]:02x}",
            where=_at(source, data, error.start),
        ) from error


def _at(source: Source, data: bytes, position: int) -> str:
    line = data.count(b"\n", 0, position) + 1
    return f"{source.name}:{line}"


def _json_rows(source: Source, problems: Problems) -> Iterator[Row]:
    """An array where the file starts with a bracket, else one object a line, whatever the extension."""
    data = _text_bytes(source)
    if data[:4096].lstrip()[:1] == b"[" and not _is_array_on_first_line(data):
        yield from _array_rows(source, _decoded(source, data), problems)
        return
    if _is_one_object(data):
        raise Unusable(
            "the file is one JSON object over several lines, not rows",
            "write an array of objects, or one object a line",
        )
    for number, line in enumerate(_lines(data), start=1):
        if line and not line.isspace():
            with problems.noting(f"{source.name}:{number}", row=True):
                yield Row(_object_of_line(line), source.name, str(number))


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


def _object_of_line(line: bytes) -> dict[str, Any]:
    if len(line) > _LONGEST_LINE_BYTES:
        raise Unusable(
            f"a line has at most {_LONGEST_LINE_BYTES:,} bytes",
            "cut it, or split it into several rows",
            value=f"{len(line):,} bytes",
        )
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_once_each)
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
            value=_around(error),
        ) from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; deep nesting
        raise Unusable(f"the line is not usable JSON: {error}", "mend the line") from error
    return _object(value)


class _TwiceError(ValueError):
    """A key stands twice in an object, and one of its values would be lost."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises: _TwiceError."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return fields


def _object(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Unusable(
        "a row is a JSON object", "write it as an object with named fields", value=json.dumps(value)
    )


def _around(error: json.JSONDecodeError) -> str:
    return error.doc[max(0, error.pos - 20) : error.pos + 20].strip()


def _array_rows(source: Source, text: str, problems: Problems) -> Iterator[Row]:
    try:
        items = _items(text)
    except json.JSONDecodeError as error:
        raise Unusable(
            f"the JSON array is broken: {error.msg.lower()} at column {error.colno}",
            "mend it there: no item can be left out of it; or write one JSON object a line",
            value=_around(error),
            where=f"{source.name}:{error.lineno}",
        ) from error
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not usable JSON: {error}", "mend the file") from error
    for number, item in enumerate(items, start=1):
        place = f"item {number}"
        with problems.noting(f"{source.name}:{place}", row=True):
            if isinstance(item, _TwiceError):
                raise Unusable(str(item), "keep one of the two")
            yield Row(_object(item), source.name, place)


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


def _csv_rows(source: Source, problems: Problems) -> Iterator[Row]:
    text = _decoded(source, _text_bytes(source))
    limit = csv.field_size_limit(_CSV_FIELD_CHARACTERS)
    try:
        yield from _csv_records(source, text, problems)
    finally:
        csv.field_size_limit(limit)


def _csv_records(source: Source, text: str, problems: Problems) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
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


def _parquet_rows(source: Source, problems: Problems) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        records = pyarrow.parquet.ParquetFile(source.path).read().to_pylist()
    except (pyarrow.ArrowException, ValueError, OSError, OverflowError, TypeError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the system's: the file is away, or may not be read
        reason = f"it is not a readable Parquet file: {_on_one_line(error)}"
        raise Unusable(reason, "write it again, or give the file the extension of what it is") from error
    return _numbered(records, source)


def _dataset_rows(source: Source, problems: Problems) -> Iterator[Row]:
    """The ``train`` split of a hub id, of a folder laid out like one, or of a saved data set.

    Code that comes with a data set is never run.
    """
    try:
        from datasets import DatasetDict, load_dataset, load_from_disk

        if source.layout == "saved":
            records = load_from_disk(source.name)
            records = records[_SPLIT] if isinstance(records, DatasetDict) else records
        else:
            records = load_dataset(source.name, split=_SPLIT)
    except Exception as error:  # whatever the library's loaders and the network raise
        reason = f"{type(error).__name__}: {_on_one_line(error)}"
        if source.layout == "hub":
            raise Unusable(
                f"no such path here, and the hub gives no data set: {reason}",
                "check the path or the id, and the connection",
            ) from error
        raise Unusable(
            f"it gives no data set: {reason}", f"name a file or a glob, e.g. {source.name}/**/*.jsonl"
        ) from error
    return _numbered(records, source)


def _numbered(records: Any, source: Source) -> Iterator[Row]:
    for number, fields in enumerate(records, start=1):
        yield Row(dict(fields), source.name, f"row {number}")


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:600]
