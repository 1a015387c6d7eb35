"""A real `sweeper` command, and what becomes of its processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from sweeper.drive import SweepResult

__all__ = ["Driver", "eventually", "facts_of"]

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


def facts_of(result: SweepResult) -> list[tuple[object, ...]]:
    """What two equal sweeps have in common to the last bit."""
    return [
        (trial.number, trial.state, trial.values, [e.metrics["eval/loss"] for e in trial.evaluations])
        for trial in result.trials
    ]


def eventually(holds: Callable[[], bool], within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()
