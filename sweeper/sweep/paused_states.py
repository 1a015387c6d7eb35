"""How much of the disk the states of paused trials may take."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from sweeper.search import TrialRecord, TrialState
from sweeper.space import SweepFolder

__all__ = ["states_to_drop"]

_GIB = 2**30


def states_to_drop(
    records: Iterable[TrialRecord], folder: SweepFolder, limit_gib: float | None
) -> list[tuple[int, float]]:
    """The paused trials that give up their states so that the others' fit, with GiB of each: the least
    chance first.

    ``limit_gib`` is for the states of all paused trials; None: half of what the disk would have free
    without them.
    """
    paused = [record for record in records if record.state is TrialState.PAUSED]
    sizes = {record.number: _size_gib(folder.trial_checkpoints(record.number)) for record in paused}
    taken = sum(sizes.values())
    limit = (taken + shutil.disk_usage(folder.root).free / _GIB) / 2 if limit_gib is None else limit_gib
    dropped = []
    for record in sorted(paused, key=lambda one: (one.chance or 0.0, -one.number)):
        if taken <= limit:
            break
        dropped.append((record.number, sizes[record.number]))
        taken -= sizes[record.number]
    return dropped


def _size_gib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / _GIB
