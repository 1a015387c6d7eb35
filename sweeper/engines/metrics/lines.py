"""Metrics that are written line by line: JSON lines, and what the command prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sweeper.engines.metrics.point import Names, Point

__all__ = ["JsonLines", "Output"]

_MOST_BYTES = 16_000_000
"""Read at once; the rest comes with the next look."""


class _NewLines:
    """The whole lines that a growing file has got since the last look."""

    def __init__(self, file: Path, *, after: int = 0) -> None:
        self._file, self._at = file, after

    def read(self) -> list[str]:
        try:
            with self._file.open("rb") as file:
                if file.seek(0, 2) < self._at:  # it was begun anew
                    self._at = 0
                file.seek(self._at)
                content = file.read(_MOST_BYTES)
        except OSError:
            return []
        whole = content.rfind(b"\n") + 1
        self._at += whole
        return content[:whole].decode("utf-8", errors="replace").splitlines()


class JsonLines:
    """One JSON object a line; lines that are none are passed over."""

    look_every_s = 0.2

    def __init__(self, file: Path, names: Names) -> None:
        self._lines, self._names = _NewLines(file), names

    def read(self) -> list[Point]:
        points = []
        for line in self._lines.read():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                points.append(self._names.point(record))
        return points


class Output:
    """Named groups of a pattern in what the command prints."""

    look_every_s = 0.2

    def __init__(self, log_file: Path, pattern: str, names: Names, *, after: int) -> None:
        """``after``: where the log was when the command began."""
        self._lines, self._names = _NewLines(log_file, after=after), names
        self._pattern = re.compile(pattern)

    def read(self) -> list[Point]:
        found = (match for line in self._lines.read() for match in self._pattern.finditer(line))
        return [self._names.point(match.groupdict()) for match in found]
