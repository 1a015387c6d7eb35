"""The metadata at the head of a ``.gguf`` file, read without its tensors.

Layout (little-endian), from the GGUF specification, versions 2 and 3: ``GGUF``, uint32 version,
uint64 tensors, uint64 pairs; then each pair as a string key, a uint32 type and a value. A string is
a uint64 length and UTF-8 bytes; an array is a uint32 type, a uint64 length and its items.
The ``gguf`` package reads the same in seconds, because it makes an object of every token.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["GgufFormatError", "read_gguf_header", "read_gguf_tensors"]

Value = int | float | bool | str
"""A scalar of the header; of an array only its length is kept."""

_MAGIC = b"GGUF"
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_LONGEST_STRING_BYTES = 2**26
_LONGEST_ARRAY_BYTES = 2**40
_DEEPEST_ARRAY = 4
_MOST_PAIRS = 2**16
_MOST_TENSORS, _MOST_DIMENSIONS = 2**20, 8


class GgufFormatError(ValueError):
    """The file is not GGUF of a known version, or ends within its header."""


def read_gguf_header(path: Path) -> dict[str, Value]:
    """Scalars and strings by key; ``<key>.length`` for an array.

    Raises: GgufFormatError; OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        return _read_header(file)[0]


def read_gguf_tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, as torch would give it: a matrix has outputs first.

    After the pairs of the header, each tensor has a name, uint32 dimensions, their uint64 sizes (the
    fastest first), a uint32 type and a uint64 offset.

    Raises: GgufFormatError; OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        _, count = _read_header(file)
        if count > _MOST_TENSORS:
            raise GgufFormatError(f"it claims {count} tensors")
        tensors = {}
        for _ in range(count):
            name, dimensions = _string(file), int(_number(file, "<I"))
            if dimensions > _MOST_DIMENSIONS:
                raise GgufFormatError(f"it claims a tensor of {dimensions} dimensions")
            sizes = [int(_number(file, "<Q")) for _ in range(dimensions)]
            _number(file, "<I")
            _number(file, "<Q")
            tensors[name] = tuple(reversed(sizes))
        return tensors


def _read_header(file: BinaryIO) -> tuple[dict[str, Value], int]:
    """The pairs, and how many tensors follow."""
    if file.read(4) != _MAGIC:
        raise GgufFormatError("it does not start with GGUF")
    version = _number(file, "<I")
    if version not in (2, 3):
        raise GgufFormatError(f"its version is {version}, known are 2 and 3")
    tensors, pairs = int(_number(file, "<Q")), _number(file, "<Q")
    if pairs > _MOST_PAIRS:
        raise GgufFormatError(f"it claims {pairs} metadata pairs")
    header: dict[str, Value] = {}
    for _ in range(int(pairs)):
        _read_pair(file, header)
    return header, tensors


def _read_pair(file: BinaryIO, header: dict[str, Value]) -> None:
    key = _string(file)
    kind = int(_number(file, "<I"))
    if kind == _STRING:
        header[key] = _string(file)
    elif kind == _ARRAY:
        header[f"{key}.length"] = _skip_array(file)
    else:
        header[key] = _number(file, _scalar(kind))


def _skip_array(file: BinaryIO, depth: int = 1) -> int:
    if depth > _DEEPEST_ARRAY:
        raise GgufFormatError(f"it nests arrays deeper than {_DEEPEST_ARRAY}")
    kind, length = int(_number(file, "<I")), int(_number(file, "<Q"))
    if kind == _STRING:
        for _ in range(length):
            _skip(file, int(_number(file, "<Q")))
    elif kind == _ARRAY:
        for _ in range(length):
            _skip_array(file, depth + 1)
    else:
        _skip(file, struct.calcsize(_scalar(kind)) * length)
    return length


def _skip(file: BinaryIO, count: int) -> None:
    if count > _LONGEST_ARRAY_BYTES:
        raise GgufFormatError(f"it claims a value of {count} bytes")
    file.seek(count, 1)


def _scalar(kind: int) -> str:
    layout = _SCALARS.get(kind)
    if layout is None:
        raise GgufFormatError(f"it holds a value of the unknown type {kind}")
    return layout


def _number(file: BinaryIO, layout: str) -> int | float | bool:
    data = _bytes(file, struct.calcsize(layout))
    value: int | float | bool = struct.unpack(layout, data)[0]
    return value


def _string(file: BinaryIO) -> str:
    return _bytes(file, int(_number(file, "<Q"))).decode("utf-8", errors="replace")


def _bytes(file: BinaryIO, count: int) -> bytes:
    if count > _LONGEST_STRING_BYTES:
        raise GgufFormatError(f"it claims a string of {count} bytes")
    data = file.read(count)
    if len(data) < count:
        raise GgufFormatError("it ends within its header")
    return data
