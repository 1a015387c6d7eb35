"""Ctrl-C and a scheduler's SIGTERM: the first asks, the second ends at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from sweeper.search import is_committing

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_S, _PATIENCE_S = 0.02, 3.0
"""A commit is not cut in two: a signal that comes in the middle of one comes again after the first, and
once it has waited for the second it interrupts all the same."""


class Interrupts:
    """While it is entered, both signals raise KeyboardInterrupt, unless somebody wants to be asked first."""

    def __init__(self) -> None:
        self._ask: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}
        self._again: threading.Timer | None = None
        self._waits_since_s: float | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._again is not None:
            self._again.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self._waits_since_s is not None:
            raise KeyboardInterrupt

    def ask_first(self, ask: Callable[[], None] | None) -> None:
        """Call this, in a thread of its own, at the first signal from now on; the second one interrupts.
        None takes it back."""
        self._ask = ask
        for number in self._before:  # a library may have put its own handler in between
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        ask, self._ask = self._ask, None
        if ask is not None:
            # Not here: the signal may have come in the middle of a print or while a lock is held.
            threading.Thread(target=ask, daemon=True).start()
        elif is_committing() and not self._has_waited():
            thread = threading.main_thread().ident
            self._again = threading.Timer(_AGAIN_S, signal.pthread_kill, (thread, number))
            self._again.daemon = True
            self._again.start()
        else:
            self._waits_since_s = None
            raise KeyboardInterrupt

    def _has_waited(self) -> bool:
        now = time.monotonic()
        if self._waits_since_s is None:
            self._waits_since_s = now
        return now - self._waits_since_s > _PATIENCE_S
