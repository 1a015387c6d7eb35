"""What a process runs that tokenizes rows while others start (see ``Preparation`` in commands).

It reads a configuration and a folder for prepared rows from its standard input, as one pickle. It answers
with two: the rows' folder, once nobody else can begin to make them, and at the end None; between them come
pairs of how many rows are done and which fraction of all that is, or None; in place of either
comes the DataError that it met. Of anything else it says nothing but in the log: whoever needs the rows
makes them then, and tells. It ends when its input does: its parent wants so, or is dead.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from sweeper.data.prepare import prepared_folder, tokenized
from sweeper.errors import DataError
from sweeper.space import Config

__all__ = ["COMMAND"]

_AT_ONCE_S, _EVERY_S = 2.0, 0.5
COMMAND = (sys.executable, "-c", f"from {__name__} import main; main()")


def main() -> None:
    """The whole life of the process."""
    try:
        _work()
    finally:
        sys.stderr.flush()
    os._exit(0)  # its thread is reading, which the interpreter's own end does not bear


def _work() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print belongs into the log
    config, cache_dir = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_input, daemon=True).start()
    if not config.trust_remote_code:
        # A tokenizer needs none of it, and importing it takes longer than all the rest.
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        _prepare(config, cache_dir, answers)
        _answer(answers, None)
    except DataError as error:
        _answer(answers, error)


def _prepare(config: Config, cache_dir: Path, answers: BinaryIO) -> None:
    folder = prepared_folder(config, cache_dir)
    is_there, began = folder.is_dir(), time.monotonic()
    if is_there:
        _answer(answers, folder)
    tokenized(config, folder, begun=lambda: _answer(answers, folder), progress=_Teller(answers).tell)
    if not is_there:
        sys.stderr.write(f"the rows were tokenized in {time.monotonic() - began:.1f} s\n")


class _Teller:
    """Says how far it is, not more often than anybody can read it; nothing of what is done at once."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers, self._next_s = answers, time.monotonic() + _AT_ONCE_S

    def tell(self, rows: int, fraction: float | None) -> None:
        if time.monotonic() >= self._next_s:
            _answer(self._answers, (rows, fraction))
            self._next_s = time.monotonic() + _EVERY_S


def _answer(answers: BinaryIO, answer: Path | DataError | tuple[int, float | None] | None) -> None:
    pickle.dump(answer, answers)
    answers.flush()


def _end_with_input() -> None:
    while os.read(0, 2**16):  # not through sys.stdin: a copy of this process closes it, and would wait for us
        pass
    os._exit(0)
