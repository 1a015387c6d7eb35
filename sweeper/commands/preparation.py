"""The rows of a sweep are tokenized while Ray and the workers start, not after."""

from __future__ import annotations

import os
import pickle
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sweeper.data import PREPARING, prepared_folder
from sweeper.errors import DataError
from sweeper.screen.progress import prepared_text
from sweeper.space import Config

__all__ = ["Preparation", "in_lines", "preparing"]

Told = Callable[[int, float | None], object]

_LINE_EVERY_S = 10.0
_ENVIRONMENT = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}


class Preparation:
    """One configuration's rows on their way to the cache, in a process of their own.

    Not in this one: a tokenizer comes with transformers, and that takes a second and more. What the process
    does not manage, whoever needs the rows does.
    """

    def __init__(self, config: Config, cache_dir: Path, told: Told = lambda *_: None) -> None:
        """``told`` hears from another thread how many rows are done, and which fraction of all that is, where
        this takes more than a moment."""
        self._told = told
        self.config, self._cache_dir = config, cache_dir
        self._folder: Future[Path | None] = Future()
        self._end: Future[None] = Future()
        self._process = subprocess.Popen(
            PREPARING,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # an interrupt from the terminal is this process's to handle
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def folder(self) -> Path:
        """Where the rows lie, or will: see ``prepared_folder``, and what it raises."""
        return self._folder.result() or prepared_folder(self.config, self._cache_dir)

    def check(self) -> None:
        """Raises the DataError that the process has met by now."""
        if self._end.done():
            self._end.result()

    def close(self) -> None:
        """End the process, whether it has done its work or not."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _listen(self) -> None:
        """Ask, and hear the two answers; None stands for one that does not come."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None and answers is not None
        with suppress(OSError, ValueError):  # it is gone, or its pipe is closed
            pickle.dump((self.config, self._cache_dir), pipe)
            pipe.flush()
        with answers:
            for future in (self._folder, self._end):
                answer = self._next_answer(answers)
                if isinstance(answer, DataError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _next_answer(self, answers: IO[bytes]) -> Any:
        """What is no word of how far it is."""
        try:
            while isinstance(answer := pickle.load(answers), tuple):
                self._told(*answer)
        except Exception:  # cut off in the middle, as processes are killed
            return None
        return answer


def in_lines(say: Callable[[str], object]) -> Told:
    """Says now and then how far a preparation is."""
    said_s = [0.0]

    def told(rows: int, fraction: float | None) -> None:
        if time.monotonic() - said_s[0] > _LINE_EVERY_S:
            said_s[0] = time.monotonic()
            say(prepared_text(rows, fraction))

    return told


@contextmanager
def preparing(config: Config, cache_dir: Path, told: Told = lambda *_: None) -> Iterator[Preparation]:
    """Prepare while the block lasts; ``told`` as for ``Preparation``."""
    preparation = Preparation(config, cache_dir, told)
    try:
        yield preparation
    finally:
        preparation.close()
