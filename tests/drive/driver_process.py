"""A real `sweeper` command, and what becomes of its processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sweeper.spec import SweepFolder

__all__ = ["Driver", "eventually", "is_alive", "ranks_of"]

_WITHIN_S = 240


class Driver:
    """A real `sweeper` command in a process group of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweeper", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""

    def until(self, words: str) -> Driver:
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return self
        raise AssertionError(f"it ended without saying {words!r}:\n{self.said}")

    def end(self) -> int:
        self.said += self.process.stdout.read()
        return self.process.wait(timeout=_WITHIN_S)


def ranks_of(folder: SweepFolder) -> list[int]:
    return [int(mark.name.rpartition("-")[2]) for mark in folder.processes_dir.glob("*")]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(holds: Callable[[], bool], within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()
