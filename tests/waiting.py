"""Waiting for what another thread or process does: as long as it takes, on a busy machine too."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["HANGS_AFTER_S", "eventually"]

HANGS_AFTER_S = 300.0
"""What has not happened by then never will. It proves no speed: a test shows what was not waited for."""


def eventually(holds: Callable[[], bool], within_s: float = HANGS_AFTER_S) -> bool:
    """Whether it comes to hold."""
    until = time.monotonic() + within_s
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()
