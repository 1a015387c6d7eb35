"""A real `sweeper` command, and what becomes of its processes."""

from __future__ import annotations

import subprocess
import sys

from waiting import HANGS_AFTER_S

from sweeper.drive import SweepResult

__all__ = ["Driver", "facts_of"]


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
        return self.process.wait(timeout=HANGS_AFTER_S)


def facts_of(result: SweepResult) -> list[tuple[object, ...]]:
    """What two equal sweeps have in common to the last bit."""
    return [
        (trial.number, trial.state, trial.values, [e.metrics["eval/loss"] for e in trial.evaluations])
        for trial in result.trials
    ]
