"""A board whose library lives in a process of its own, so that it can hang, hook and die as it likes.

wandb's exit waits for its uploads: with a server that is away a command that had ended stayed for a minute
and a half. It also hooks the interpreter's exit and errors, and takes two seconds to import.

Each call is pickled and answered by what went wrong, or None; whatever the library prints goes to this
process's standard error, which is the driver's log.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sweeper.track.boards.writer import Board, BoardTrial

__all__ = ["ApartBoard", "serve"]

_END_S = 90.0
"""The process has so much time to end by itself: its last uploads are in it."""


class ApartBoard(Board):
    """The driver's end. The process has what it was told, and outlives this one."""

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        """``module`` calls ``serve`` when it is run; its board is made from ``settings``."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what a terminal sends its processes is not for this one
        )

    def trial_started(self, trial: BoardTrial) -> None:
        self._call("trial_started", trial)

    def log(self, number: int, tokens: int, values: Mapping[str, float], time_s: float) -> None:
        self._call("log", number, tokens, values, time_s)

    def trial_finished(
        self, number: int, state: str, reason: str | None, metrics: Mapping[str, float]
    ) -> None:
        self._call("trial_finished", number, state, reason, metrics)

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self.abandon()

    def abandon(self) -> None:
        """The library's own processes notice, and end."""
        self._process.kill()
        threading.Thread(target=self._process.wait, daemon=True).start()

    def _call(self, method: str, *arguments: Any) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            problem = pickle.load(self._process.stdout)
        except (OSError, EOFError):
            problem = "its process has ended"
        if problem is not None:
            raise RuntimeError(problem)


def serve(make: Callable[..., Any]) -> None:
    """The process: makes the board and answers until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    board: Any = None
    with suppress(EOFError):
        while True:
            method, arguments = pickle.load(sys.stdin.buffer)
            problem = None
            try:
                board = board or make(**json.loads(sys.argv[1]))
                getattr(board, method)(*arguments)
            except BaseException as error:  # a SystemExit of a library, too, is an answer
                problem = " ".join(str(error).split()) or type(error).__name__
            pickle.dump(problem, answers)
    if board is not None:
        board.close()
