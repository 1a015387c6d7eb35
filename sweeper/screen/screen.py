"""What users are told: on the screen for as long as there is one, and in the driver's log in any case."""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from rich.console import Console

__all__ = ["LastingStream", "LogFollower", "Say", "Screen", "Verbosity"]

_BACKLOG_LINES = 2**13
"""So many wait for a reader that has stopped reading; what comes after them is left out."""
_LAST_WORDS_S = 3.0
"""How long the end waits for such a reader."""
_LOOK_EVERY_S = 0.2


class Verbosity(Enum):
    """What of the log the user sees."""

    QUIET = "quiet"
    """Warnings."""
    NORMAL = "normal"
    """What the command says by itself: as a panel that moves on a terminal, as lines anywhere else."""
    VERBOSE = "verbose"
    """All of it, what libraries print included."""


class Say(Protocol):
    """Tells the user a line."""

    def __call__(self, text: str, *, warning: bool = False) -> None: ...


class Screen:
    """Lines for the user. Each goes into the log as well, with its time.

    Neither ever stops a sweep: a log whose disk is full loses lines, and so does a screen that is gone.
    """

    def __init__(
        self, stream: TextIO, *, log: BinaryIO | None = None, verbosity: Verbosity = Verbosity.NORMAL
    ) -> None:
        """Where it is to be verbose, somebody else brings the whole log to the stream."""
        self.console = Console(file=stream, highlight=False)
        self._log, self._verbosity = log, verbosity

    @property
    def has_panel(self) -> bool:
        """Whether what moves may be drawn."""
        return self.console.is_terminal and self._verbosity is Verbosity.NORMAL

    @property
    def has_cell(self) -> bool:
        """Whether it is the output of a notebook's cell, which may be drawn anew."""
        return self.console.is_jupyter and self._verbosity is Verbosity.NORMAL

    def say(self, text: str, *, warning: bool = False, shown: str | None = None) -> None:
        """A line in the log, and on the screen, there as ``shown``. A quiet one shows warnings."""
        self.note(text)
        if self._verbosity is Verbosity.NORMAL or (warning and self._verbosity is Verbosity.QUIET):
            self.console.print(shown or text, soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        """A line in the log alone."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n"
        with suppress(OSError, ValueError):  # a ValueError once it is closed
            if self._log is not None:
                self._log.write(line.encode("utf-8", "backslashreplace"))


class LogFollower:
    """Copies what is appended to a file, from its present end on, to a stream, until it is stopped."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self._file, self._stream = file, stream
        self._read_bytes = file.stat().st_size if file.exists() else 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The last lines are copied before it returns."""
        self._is_over.set()
        self._thread.join(_LAST_WORDS_S)

    def _follow(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        with suppress(OSError, ValueError), self._file.open("rb") as file:
            file.seek(self._read_bytes)
            lines = file.read()
            whole = lines if self._is_over.is_set() else lines[: lines.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            self._stream.write(whole.decode("utf-8", "replace"))


class LastingStream(io.TextIOBase):
    """A text stream to a descriptor, for a program that is to outlive whoever reads there.

    Writing neither waits nor fails. Where the descriptor takes nothing more (a closed pipe, a terminal that
    is gone, a full disk), everything from then on is dropped; where its reader has stopped reading, as a
    paused pager does, some of it waits and the rest is left out and counted. A thread writes the bytes.
    """

    def __init__(self, descriptor: int, *, encoding: str, lost: Callable[[OSError], None]) -> None:
        """Owns the descriptor from now on. ``lost`` is called by the thread, when it takes nothing more."""
        self._descriptor, self._encoding, self._lost = descriptor, encoding, lost
        self._is_terminal = os.isatty(descriptor)
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_BACKLOG_LINES)
        self._left_out = 0
        self._is_gone = False
        self._writer = threading.Thread(target=self._write_all, name="screen", daemon=True)
        self._writer.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._is_gone:
            return len(text)
        data = text.encode(self._encoding, "backslashreplace")
        if self._left_out:
            data = f"[{self._left_out} lines stand in the log alone]\n".encode("ascii") + data
        try:
            self._waiting.put_nowait(data)
            self._left_out = 0
        except queue.Full:
            self._left_out += 1
        return len(text)

    def close(self) -> None:
        """Waits until everything is written, some seconds at most. A descriptor that a write hangs in stays
        open."""
        if self.closed:
            return
        if not self._is_gone:
            with suppress(queue.Full):
                self._waiting.put(None, timeout=_LAST_WORDS_S)
        self._writer.join(_LAST_WORDS_S)
        if not self._writer.is_alive():
            os.close(self._descriptor)
        super().close()

    def _write_all(self) -> None:
        try:
            while (data := self._waiting.get()) is not None:
                while data:
                    data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._is_gone = True
            self._lost(error)
