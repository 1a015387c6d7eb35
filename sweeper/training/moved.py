"""Where a trial is between two evaluations: a small file that rank 0 replaces and anybody may read.

What it tells has crossed to the host already, for divergence to be noticed: it costs no step anything.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeper.space import write_whole

__all__ = ["Moved", "MovedFile", "read_moved"]

_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far a trial is."""

    step: int
    """Optimizer steps done."""
    tokens: int
    """Real training tokens seen."""
    tokens_per_s: float
    """Since its last evaluation, over all ranks."""
    total_tokens: int = 0
    """Of the whole trial; 0 where that is not known."""


class MovedFile:
    """Writes once a second at most. A full disk costs the news, and no trial."""

    def __init__(self, file: Path | None) -> None:
        """None, for the ranks that are not asked: they are all after the same step."""
        self._file, self._written_s = file, 0.0

    def write(self, moved: Moved) -> None:
        now_s = time.monotonic()
        if self._file is None or now_s - self._written_s < _EVERY_S:
            return
        self._written_s = now_s
        with suppress(OSError):
            write_whole(self._file, json.dumps(asdict(moved)))


def read_moved(file: Path) -> Moved | None:
    """None where a trial has not told, or what is there cannot be read."""
    try:
        return Moved(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
