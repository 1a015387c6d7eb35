"""A board whose library lives in a process of its own, so that it can hang, hook and die as it likes.

wandb's exit waits for its uploads: with a server that is away a command that had ended stayed for a minute
and a half. It also hooks the interpreter's exit and errors, and takes two seconds to import.

Calls go to the process as lines of JSON, each answered by one; whatever its library prints goes to this
process's standard error, which is the driver's log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from sweeper.track.boards.writer import Board, BoardTrial

__all__ = ["ApartBoard", "serve"]

_END_S = 90.0
"""The process has so much time to end by itself: its last uploads are in it."""


class ApartBoard:
    """The near side."""

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        """``module`` calls ``serve`` when it is run; its board is made from ``settings``."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what a terminal sends its processes is not for this one
        )

    def trial_started(self, trial: BoardTrial) -> None:
        self._call("trial_started", trial=asdict(trial))

    def log(self, number: int, tokens: int, values: Mapping[str, float], time_s: float) -> None:
        self._call("log", number=number, tokens=tokens, values=dict(values), time_s=time_s)

    def trial_finished(
        self, number: int, state: str, reason: str | None, metrics: Mapping[str, float]
    ) -> None:
        self._call("trial_finished", number=number, state=state, reason=reason, metrics=dict(metrics))

    def flush(self) -> None:
        self._call("flush")

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

    def _call(self, method: str, **arguments: Any) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        said = json.loads(answer) if answer else "its process has ended"
        if said is not None:
            raise RuntimeError(said)


def serve(make: Callable[..., Board]) -> None:
    """The far side: makes the board and answers until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    board: Board | None = None
    for line in sys.stdin.buffer:
        method, arguments = json.loads(line)
        said = None
        try:
            board = board or make(**json.loads(sys.argv[1]))
            _carry_out(board, method, arguments)
        except BaseException as error:  # a SystemExit of a library, too, is an answer
            said = " ".join(str(error).split()) or type(error).__name__
        answers.write(json.dumps(said).encode() + b"\n")
    if board is not None:
        board.close()


def _carry_out(board: Board, method: str, arguments: dict[str, Any]) -> None:
    match method:
        case "trial_started":
            board.trial_started(BoardTrial(**arguments["trial"]))
        case "log":
            board.log(**arguments)
        case "trial_finished":
            board.trial_finished(**arguments)
        case "flush":
            board.flush()
