"""The command line in a process that lives on: ``sweeper.cli:main`` as the console script calls it, its
imports paid once, and a limit of time that turns a hang into an answer.

Run as a program this is the child: it reads one request a line and writes one answer a line.
"""

from __future__ import annotations

import functools
import io
import json
import os
import resource
import select
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_LIMIT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one command came to."""

    status: int | None
    """Exit status; None where there is none: a traceback, a hang or a dead process."""
    told: str
    """What it printed to standard error; the traceback where there is one."""
    wall_s: float
    cpu_s: float
    peak_memory_mib: float
    """Of the process so far."""
    hung: bool = False


class CommandLine:
    """Runs commands in ``folder``, one after another; ``hang_s`` is when one is given up."""

    def __init__(self, folder: Path, *, hang_s: float = 300.0) -> None:
        self._folder, self._hang_s = folder, hang_s
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CommandLine:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def __call__(self, *arguments: str) -> Outcome:
        child = self._child or self._start()
        assert child.stdin is not None
        began = time.perf_counter()
        child.stdin.write(json.dumps(arguments).encode() + b"\n")
        child.stdin.flush()
        answer = self._answer(child, self._hang_s)
        wall_s = time.perf_counter() - began
        if isinstance(answer, str):
            self._end()
            hung = answer == "hung"
            return Outcome(
                status=None, told=answer, wall_s=wall_s, cpu_s=wall_s, peak_memory_mib=0.0, hung=hung
            )
        return Outcome(**answer)

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        )
        answer = self._answer(self._child, _START_LIMIT_S)
        assert not isinstance(answer, str), answer
        return self._child

    @staticmethod
    def _answer(child: subprocess.Popen[bytes], limit_s: float) -> dict[str, Any] | str:
        assert child.stdout is not None
        if not select.select([child.stdout], [], [], limit_s)[0]:
            return "hung"
        line = child.stdout.readline()
        return json.loads(line) if line else f"the process died: {child.wait()}"

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    import typer.main

    import sweeper.commands
    import sweeper.data
    import sweeper.search  # noqa: F401
    from sweeper.cli import main

    typer.main.get_command = functools.cache(typer.main.get_command)  # made anew at each call otherwise
    answers.write(b"{}\n")
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_run(main, json.loads(line))).encode() + b"\n")


def _run(main: Any, arguments: list[str]) -> dict[str, Any]:
    streams = sys.stdout, sys.stderr
    sys.argv = ["sweeper", *arguments]
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    wall, cpu = time.perf_counter(), time.process_time()
    status, told = None, ""
    try:
        main()
        sys.stdout.flush()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        told = traceback.format_exc()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sys.stderr.flush()
    told = told or sys.stderr.buffer.getvalue().decode()  # type: ignore[attr-defined]
    sys.stdout, sys.stderr = streams
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"status": status, "told": told, "wall_s": wall, "cpu_s": cpu, "peak_memory_mib": peak}


if __name__ == "__main__":
    _serve()
