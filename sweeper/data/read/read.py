"""Sources -> their rows, a piece at a time: no source is held whole.

pyarrow and ``datasets`` are imported when needed.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.arrays import array_rows
from sweeper.data.read.files import Source, extension
from sweeper.data.read.parse import (
    LONGEST_LINE_BYTES,
    Row,
    at,
    csv_rows,
    is_array_on_first_line,
    is_one_object,
    line_rows,
    starts_with_json,
)

__all__ = ["Piece", "Row", "note_empty", "pieces", "read_rows", "saved_records"]

PIECE_BYTES = 2**21
"""Lines of about so many bytes are a piece: a second of work, and what a killed preparation loses."""
PIECE_ROWS = 2000
"""So many rows are a piece of any other source."""

_GZIP = b"\x1f\x8b"
_SPLIT = "train"


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring rows of one source; made in one process, read in another."""

    source: str
    lines: bytes = b""
    """Whole lines of JSON."""
    first: int = 1
    """The number of the first line."""
    rows: tuple[Row, ...] = ()
    """What is no lines, read."""

    def read(self, problems: Problems) -> Iterator[Row]:
        """Its rows that can be read; what cannot is added to ``problems``."""
        yield from self.rows
        yield from line_rows(self.source, self.lines, self.first, problems)


def pieces(source: Source, problems: Problems) -> Iterator[Piece]:
    """A source from its beginning to its end, or to where it is broken, which is added to ``problems``."""
    with problems.noting(source.name):
        try:
            yield from _reader(source)(source, problems)  # what precedes a broken place stays
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror or error}"
            raise Unusable(reason, "check its permissions") from error


def read_rows(source: Source, problems: Problems) -> list[Row]:
    """Every row of one source that can be read; what cannot is added to ``problems``."""
    before = len(problems)
    rows = [row for piece in pieces(source, problems) for row in piece.read(problems)]
    note_empty(source, problems, is_empty=not rows and len(problems) == before)
    return rows


def note_empty(source: Source, problems: Problems, *, is_empty: bool) -> None:
    """Add that a source has no rows, not even broken ones."""
    if is_empty:
        problems.add(source.name, "it holds no rows", "name data that has rows")


def _reader(source: Source) -> Callable[[Source, Problems], Iterator[Piece]]:
    if source.layout != "file":
        return _dataset_pieces
    kind = extension(source.path).removesuffix(".gz")
    return {".csv": _csv_pieces, ".parquet": _parquet_pieces}.get(kind, _json_pieces)


class _Unpacked:
    """What a file packed by gzip holds."""

    def __init__(self, path: Path) -> None:
        self._stream = gzip.open(path, "rb")  # noqa: SIM115  # see close

    def read(self, size: int) -> bytes:
        """Raises: Unusable where it cannot be unpacked."""
        try:
            return self._stream.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Unusable(f"the file is not whole gzip: {error}", "pack it again") from error

    def close(self) -> None:
        self._stream.close()


def _opened(source: Source) -> closing[_Unpacked | BinaryIO]:
    """What a text file holds, unpacked as it is read."""
    is_packed = source.path.suffix.lower() == ".gz"
    return closing(_Unpacked(source.path) if is_packed else source.path.open("rb"))


def _checked(source: Source, data: bytes, first: int = 1, *, begins: bool = True) -> bytes:
    """Text of which the first line has this number; that of a file's beginning loses its byte order mark.

    Raises: Unusable where it is none.
    """
    if begins:
        data = data.removeprefix(codecs.BOM_UTF8)
    if begins and data.startswith(_GZIP):
        raise Unusable("it is a binary file, packed by gzip", "let its name end with .gz")
    zero = data.find(b"\0")
    if zero >= 0 and begins and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unusable("it is UTF-16 text", "save it as UTF-8")
    if zero >= 0:
        raise Unusable(
            "it is a binary file, not text: it holds a byte 0x00",
            "name a text file, or give a Parquet file its extension",
            where=at(source, data, zero, first),
        )
    return data


def _json_pieces(source: Source, problems: Problems) -> Iterator[Piece]:
    """An array where the file starts with a bracket, else one object a line, whatever the extension."""
    with _opened(source) as stream:
        head = _checked(source, stream.read(PIECE_BYTES))
        if head[:4096].lstrip()[:1] == b"[":
            if not is_array_on_first_line(head):
                yield from _in_pieces(array_rows(source, _texts(source, head, stream), problems), source)
                return
        elif not starts_with_json(head):
            head = _checked(source, head + stream.read(LONGEST_LINE_BYTES + 1))
            if is_one_object(head):
                raise Unusable(
                    "the file is one JSON object over several lines, not rows",
                    "write an array of objects, or one object a line",
                )
        yield from _line_pieces(source, head, stream)


def _line_pieces(source: Source, head: bytes, stream: _Unpacked | BinaryIO) -> Iterator[Piece]:
    first, rest, block = 1, b"", head
    while block:
        end = block.rfind(b"\n")
        if end >= 0:
            lines = _checked(source, rest + block[:end], first, begins=first == 1)
            yield Piece(source.name, lines, first)
            first += lines.count(b"\n") + 1
            rest = block[end + 1 :]
        else:
            rest += block
        block = stream.read(PIECE_BYTES)
    if rest:
        yield Piece(source.name, _checked(source, rest, first, begins=first == 1), first)


def _csv_pieces(source: Source, problems: Problems) -> Iterator[Piece]:
    with _opened(source) as stream:
        head = _checked(source, stream.read(PIECE_BYTES))
        yield from _in_pieces(csv_rows(source, _texts(source, head, stream), problems), source)


def _texts(source: Source, head: bytes, stream: _Unpacked | BinaryIO) -> Iterator[str]:
    """A file as texts, one after another; its head is checked. Raises: Unusable where it is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, data = 1, head
    while True:
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise Unusable(
                "the file is not UTF-8",
                "save it as UTF-8",
                value=f"byte 0x{error.object[error.start]:02x}",
                where=at(source, error.object, error.start, line),
            ) from error
        yield text
        if not data:
            return
        line += text.count("\n")
        data = _checked(source, stream.read(PIECE_BYTES), line, begins=False)


def _in_pieces(rows: Iterable[Row], source: Source) -> Iterator[Piece]:
    """Raises what reading the rows raises, after those before it."""
    left, broken = iter(rows), None
    while broken is None:
        some: list[Row] = []
        try:
            for row in left:
                some.append(row)
                if len(some) == PIECE_ROWS:
                    break
        except Unusable as error:
            broken = error
        if some:
            yield Piece(source.name, rows=tuple(some))
        elif broken is None:
            return
    raise broken


def _parquet_pieces(source: Source, problems: Problems) -> Iterator[Piece]:
    return _in_pieces(_numbered(_parquet_records(source), source), source)


def _parquet_records(source: Source) -> Iterator[dict[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(source.path, buffer_size=PIECE_BYTES) as file:
            for batch in file.iter_batches(batch_size=PIECE_ROWS):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, ValueError, OSError, OverflowError, TypeError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the system's: the file is away, or may not be read
        reason = f"it is not a readable Parquet file: {_on_one_line(error)}"
        raise Unusable(reason, "write it again, or give the file the extension of what it is") from error


def _dataset_pieces(source: Source, problems: Problems) -> Iterator[Piece]:
    batches = saved_records(source).iter(batch_size=PIECE_ROWS)
    records = (
        dict(zip(batch, values, strict=True))
        for batch in batches
        for values in zip(*batch.values(), strict=True)
    )
    return _in_pieces(_numbered(records, source), source)


def saved_records(source: Source) -> Any:
    """The ``train`` split of a hub id, of a folder laid out like one, or of a saved data set, as ``datasets``
    maps it into memory.

    Code that comes with a data set is never run. Raises: Unusable.
    """
    try:
        from datasets import DatasetDict, load_dataset, load_from_disk

        if source.layout != "saved":
            return load_dataset(source.name, split=_SPLIT)
        records = load_from_disk(source.name)
        return records[_SPLIT] if isinstance(records, DatasetDict) else records
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


def _numbered(records: Iterable[dict[str, Any]], source: Source) -> Iterator[Row]:
    for number, fields in enumerate(records, start=1):
        yield Row(fields, source.name, f"row {number}")


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:600]
