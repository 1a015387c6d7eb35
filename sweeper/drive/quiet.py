"""Keeps third-party chatter off the screen: it goes to a log, ours goes to the person."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import UnsupportedOperation
from pathlib import Path
from typing import TextIO

from sweeper.redact import LogRedirect

__all__ = ["quiet"]


@contextmanager
def quiet(log_file: Path, *uris: str) -> Iterator[TextIO]:
    """Send everything that this process prints to ``log_file``, below Python's own streams too.

    Secrets of the environment are struck out of it, and the passwords of ``uris``.

    Yields the stream that still reaches the person. Where standard output is not the process's
    own (a notebook, a test), Python's stream object still is, and is yielded as it stands.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    person = (
        os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding or "utf-8", errors="replace")
        if _is_own_stdout()
        else sys.stdout
    )
    log = LogRedirect(log_file, *uris)
    try:
        yield person
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        person.flush()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        log.wait()
        if person is not sys.stdout:
            person.close()


def _is_own_stdout() -> bool:
    try:
        return sys.stdout.fileno() == 1
    except (AttributeError, OSError, UnsupportedOperation):
        return False
