"""Keeps third-party chatter off the screen: it goes to a log, ours goes to the terminal and to the log."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sweeper.errors import SweeperError
from sweeper.redact import LogRedirect, without_secrets
from sweeper.screen.screen import LastingStream, LogFollower, Screen, Verbosity

__all__ = ["quiet"]


@contextmanager
def quiet(log_file: Path, *uris: str, verbosity: Verbosity = Verbosity.NORMAL) -> Iterator[Screen]:
    """Send everything that this process prints to ``log_file``, below Python's own streams too.

    Secrets of the environment are struck out of it, and the passwords of ``uris``. An exception that comes
    through here is told in the log as well, since nobody may be there to see it on the screen.

    Yields what still reaches the terminal. Where standard output is not the process's own (a notebook, a
    test), Python's stream object still is, and is written to as it stands.
    """
    _flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    own = os.dup(1) if _is_own_stdout() else None
    redirect = LogRedirect(log_file, *uris)
    log = os.fdopen(os.dup(1), "wb", buffering=0)
    stream = sys.stdout if own is None else _lasting(own, log)
    follower = LogFollower(log_file, stream) if verbosity is Verbosity.VERBOSE else None
    screen = Screen(stream, log=log, verbosity=verbosity)
    try:
        yield screen
    except BaseException as error:
        said = str(error) if isinstance(error, SweeperError) else traceback.format_exc()
        screen.note(without_secrets(said))
        raise
    finally:
        _flush()
        log.close()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        redirect.wait()
        if follower is not None:
            follower.stop()
        if own is not None:
            stream.close()


def _lasting(descriptor: int, log: BinaryIO) -> TextIO:
    def tell(error: OSError) -> None:
        Screen(sys.stdout, log=log).note(f"the screen is gone ({error.strerror}): lines go to this log alone")

    return cast(TextIO, LastingStream(descriptor, encoding=sys.stdout.encoding or "utf-8", lost=tell))


def _flush() -> None:
    with suppress(OSError):  # whoever read there is gone
        sys.stdout.flush()
        sys.stderr.flush()


def _is_own_stdout() -> bool:
    try:
        return sys.stdout.fileno() == 1
    except (AttributeError, OSError, UnsupportedOperation):
        return False
