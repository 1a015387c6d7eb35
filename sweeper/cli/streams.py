"""Standard output and error of a command whose reader may be gone: ``sweeper run ... | head -1``.

What cannot be said to anybody is no failure of a command that has done its work. Without this a closed pipe
would become an exception wherever something is printed, and exit status 120 where Python flushes at its end.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

__all__ = ["aside", "outlive_readers", "without_threads"]

_GONE = frozenset({errno.EPIPE, errno.EIO})
"""A pipe whose other end is closed; a terminal that is."""


class _LastingFile(io.FileIO):
    """Takes everything; what nobody reads any more is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            _point_nowhere(self.fileno())
            return len(data)


def outlive_readers() -> None:
    """Must come first in a process: a closed descriptor would be the next opened file's."""
    for descriptor in (0, 1, 2):
        if not _is_open(descriptor):  # sweeper ... >&-
            _point_nowhere(descriptor)
    sys.stdout = _lasting(sys.stdout, 1)
    sys.stderr = _lasting(sys.stderr, 2)


@contextmanager
def aside(wanted: bool) -> Iterator[None]:
    """What is said meanwhile goes to standard error, where ``wanted``: standard output is for the answer."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    if not _is_over(sys.stdout, 1):
        with redirect_stdout(sys.stderr):
            yield
        return
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _lasting(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream as it was, over a file that lasts; one that is not the process's own stays."""
    if stream is not None and not _is_over(stream, descriptor):
        return stream
    encoding = "utf-8" if stream is None else stream.encoding
    return io.TextIOWrapper(
        io.BufferedWriter(_LastingFile(descriptor, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",  # a name in any script is said on a terminal of one
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )


def _is_over(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, AttributeError, io.UnsupportedOperation):
        return False


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _point_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def without_threads() -> None:
    """For a command that multiplies no matrices: OpenBLAS, which numpy brings, would start a thread for each
    core, an eighth of the command's time."""
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
