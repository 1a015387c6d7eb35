"""How much of the disk the states of paused trials, and those that trials leave for others, may take."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from sweeper.search import TrialRecord
from sweeper.space import SweepFolder

__all__ = ["size_gib", "states_over", "states_to_drop"]

_GIB = 2**30

K = TypeVar("K")


def states_to_drop(
    sizes: Mapping[int, float],
    records: Mapping[int, TrialRecord],
    folder: SweepFolder,
    limit_gib: float | None,
) -> list[tuple[int, float]]:
    """The paused trials that give up their states so that the others' fit, with GiB of each: the least
    chance first.

    ``sizes`` are GiB of the states of all paused trials, by their numbers. ``limit_gib`` is for all of them;
    None: half of what the disk would have free without them.
    """

    def least_first() -> Iterator[int]:
        yield from sorted(sizes, key=lambda number: (records[number].chance or 0.0, -number))

    over = states_over(sizes, least_first(), folder, limit_gib)
    return [(number, sizes[number]) for number in over]


def states_over(
    sizes: Mapping[K, float], least_first: Iterable[K], folder: SweepFolder, limit_gib: float | None
) -> list[K]:
    """Which of the states with these sizes, GiB, have to go so that the others fit into the limit; None: half
    of what the disk would have free without them."""
    taken = sum(sizes.values())
    limit = (taken + shutil.disk_usage(folder.root).free / _GIB) / 2 if limit_gib is None else limit_gib
    over, left = [], iter(least_first)
    while taken > limit and (key := next(left, None)) is not None:
        over.append(key)
        taken -= sizes[key]
    return over


def size_gib(folder: Path) -> float:
    """Of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / _GIB
