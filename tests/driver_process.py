"""A real `sweeper` command, and what becomes of its processes."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from waiting import HANGS_AFTER_S
from warm_processes import Forked

from sweeper.commands import SweepResult
from sweeper.search import Ledger

__all__ = ["Driver", "Terminal", "facts_of"]


class Driver:
    """A real `sweeper` command in a process group of its own; ``program`` is what Python is given for it."""

    def __init__(
        self,
        *arguments: object,
        program: tuple[str, ...] = ("-m", "sweeper"),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        words = (*program, *map(str, arguments))
        self.process = Forked(*words, env=env, cwd=cwd, stderr=subprocess.STDOUT)
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


class Terminal:
    """An interactive shell in a terminal of its own, which can be closed as a window is."""

    def __init__(self) -> None:
        self._screen, shell = pty.openpty()
        # The terminal becomes the controlling one of the shell's new session.
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"],
            stdin=shell,
            stdout=shell,
            stderr=shell,
        )
        os.close(shell)
        self.said = b""

    def enter(self, command: str, *, until: Callable[[], bool]) -> Terminal:
        os.write(self._screen, f"{command}\n".encode())
        deadline = time.monotonic() + HANGS_AFTER_S
        while not until():
            assert time.monotonic() < deadline, self.said.decode(errors="replace")
            if select.select([self._screen], [], [], 0.1)[0]:
                self.said += os.read(self._screen, 2**16)
        return self

    def close(self) -> None:
        os.close(self._screen)
        self._shell.wait(timeout=HANGS_AFTER_S)


def facts_of(sweep: SweepResult | Ledger) -> list[tuple[object, ...]]:
    """What two equal sweeps have in common to the last bit."""
    trials = sweep.trials() if isinstance(sweep, Ledger) else sweep.trials
    return [
        (trial.number, trial.state, trial.values, [e.metrics["eval/loss"] for e in trial.evaluations])
        for trial in trials
    ]
