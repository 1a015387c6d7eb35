"""Which threads are in the middle of a call to the ledger's database.

An interrupt there would leave a session half closed, or a cursor in the frames of the interrupted call;
either keeps the database locked against the sweep's last words.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["committing", "is_committing"]

_at_work: set[int] = set()


@contextmanager
def committing() -> Iterator[None]:
    """This thread is not to be interrupted for now. Does not nest."""
    thread = threading.get_ident()
    _at_work.add(thread)
    try:
        yield
    finally:
        _at_work.discard(thread)


def is_committing() -> bool:
    """Whether this thread is; a signal's handler runs in the thread that it interrupts."""
    return threading.get_ident() in _at_work
