"""Ctrl-C and a scheduler's SIGTERM: the first asks, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While it is entered, both signals raise KeyboardInterrupt, unless somebody wants to be asked first."""

    def __init__(self) -> None:
        self._ask: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask_first(self, ask: Callable[[], None] | None) -> None:
        """Call this, in a thread of its own, at the first signal from now on; the second one interrupts.
        None takes it back."""
        self._ask = ask
        for number in self._before:  # a library may have put its own handler in between
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        ask, self._ask = self._ask, None
        if ask is None:
            raise KeyboardInterrupt
        # Not here: the signal may have come in the middle of a print or while a lock is held.
        threading.Thread(target=ask, daemon=True).start()
