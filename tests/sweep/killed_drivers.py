"""Drivers that are killed at random moments, for sweeps whose trials are formulas."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Killed", "drive_through"]


class Killed(Exception):
    """The driver is gone between two commits."""


def drive_through(
    drive: Callable[[Callable[[], None]], object], *, kills: int, odds: float, seed: int = 0
) -> None:
    """Call ``drive`` with what may kill it, until it comes to the end, after exactly so many kills."""
    rng = random.Random(seed)

    def moment() -> None:
        nonlocal kills
        if kills and rng.random() < odds:
            kills -= 1
            raise Killed

    while True:
        try:
            drive(moment)
            break
        except Killed:
            continue
    assert kills == 0
