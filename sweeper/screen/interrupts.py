"""Ctrl-C, a scheduler's SIGTERM and a terminal that closes: the first asks, the second ends at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from sweeper.search import is_committing

__all__ = ["Interrupts", "unheard_by_children"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S, _PATIENCE_S = 0.02, 3.0
"""A commit is not cut in two: a signal that comes in the middle of one comes again after the first, and
once it has waited for the second it interrupts all the same."""


class Interrupts:
    """While it is entered, the signals raise KeyboardInterrupt, unless somebody wants to be asked first.

    SIGHUP is never the second: the shell and the kernel both tell of one terminal that was closed, and nobody
    is impatient. Where it is ignored from the start, as under nohup, it stays so.
    """

    def __init__(self) -> None:
        self._ask: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}
        self._again: threading.Timer | None = None
        self._waits_since_s: float | None = None
        self._is_heard = self._is_hung_up = False
        self._swallow = sys.unraisablehook
        """What is told of errors that Python swallows."""

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {one: signal.signal(one, self._handle) for one in _SIGNALS if _is_wanted(one)}
            self._swallow, sys.unraisablehook = sys.unraisablehook, self._swallowed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._again is not None:
            self._again.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._is_hung_up:
            # The kernel's may come after the shell's, and there is an end to come to.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self._before:
            sys.unraisablehook = self._swallow
        if kind is None and self._waits_since_s is not None:
            raise KeyboardInterrupt

    def ask_first(self, ask: Callable[[], None] | None) -> None:
        """Call this, in a thread of its own, at the first signal from now on; the second one interrupts.
        None takes it back."""
        self._ask = ask
        for number in self._before:  # a library may have put its own handler in between
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._is_hung_up = True
            if self._is_heard:
                return
        ask, self._ask = self._ask, None
        if ask is not None:
            self._is_heard = True
            # Not here: the signal may have come in the middle of a print or while a lock is held.
            threading.Thread(target=ask, daemon=True).start()
        elif is_committing() and not self._has_waited():
            self._come_again(number)
        else:
            self._is_heard, self._waits_since_s = True, None
            raise KeyboardInterrupt

    def _swallowed(self, what: sys.UnraisableHookArgs) -> None:
        """A signal that comes while an object is being deleted interrupts nobody, and so it comes again."""
        if issubclass(what.exc_type, KeyboardInterrupt):
            self._come_again(signal.SIGINT)
        else:
            self._swallow(what)

    def _come_again(self, number: int) -> None:
        self._waits_since_s = self._waits_since_s or time.monotonic()
        self._again = threading.Timer(_AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, number))
        self._again.daemon = True
        self._again.start()

    def _has_waited(self) -> bool:
        return self._waits_since_s is not None and time.monotonic() - self._waits_since_s > _PATIENCE_S


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Processes that are started here do not hear of a closed terminal: Ray's would end at once, and with
    them the trials that are to write their states. A SIGHUP that comes meanwhile is heard afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_wanted(number: int) -> bool:
    return number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
