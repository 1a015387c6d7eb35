"""A sweep's folder for one driver at a time: a lock that the kernel takes back when its holder dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from sweeper.errors import SweepFolderError
from sweeper.space import SweepFolder

__all__ = ["is_locked", "locked", "usable"]

_PATIENCE_S = 2.0
"""``is_locked`` holds the lock for a moment: no reason to be refused."""


@contextmanager
def locked(folder: SweepFolder) -> Iterator[None]:
    """Hold a sweep's lock. Raises SweepFolderError where another driver has it."""
    folder.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.lock_file)
    try:
        lock.acquire(timeout=_PATIENCE_S)
    except Timeout as error:
        raise SweepFolderError.of(
            where=str(folder.root),
            value="",
            rule="another driver is at work on this sweep",
            remedy="wait for it, or end it and resume then",
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: SweepFolder) -> bool:
    """Whether a driver is at work, on this host or another; a dead one is not."""
    if not folder.lock_file.exists():
        return False
    try:
        with FileLock(folder.lock_file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder, which may only be read
        return False


@contextmanager
def usable(folder: SweepFolder) -> Iterator[None]:
    """Raises SweepFolderError where the folder cannot be made or written."""
    try:
        yield
    except SweepFolderError:
        raise  # it is an OSError, too
    except OSError as error:
        raise SweepFolderError.of(
            where=str(folder.root),
            value="",
            rule=f"the sweep's folder cannot be made: {error.strerror or error}",
            remedy="name another as checkpoint_path, or with --out",
        ) from error
