"""How many trials side by side have the most tokens per second together: what to try, and which to take."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sweeper.autotune.candidates import ROOM
from sweeper.autotune.speed import Speed
from sweeper.autotune.store import hardware_text, read_finding, shape_text
from sweeper.spec import Config, read_record

__all__ = [
    "Places",
    "Tried",
    "beside",
    "known_places",
    "most_that_fit",
    "next_count",
    "places_shape",
]

_SAME = 0.02
"""Totals within this share are the same: the fewest places are taken."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """So many places, all at work."""

    places: int
    cpus_per_rank: int
    tokens_per_s: float | None
    """Real training tokens of all places together; None where they did not fit into memory."""
    spread: float = 0.0
    """(highest - lowest) / median of the measured optimizer steps' tokens_per_s, of the place with most."""
    evaluated_tokens_per_s: float = 0.0
    """Real held-out tokens of the slowest place."""
    idle_gib: float = 0.0
    """Of a rank's process without a model."""
    taken_gib: float = 0.0
    """The most that a rank took on top of that."""
    cold_start_s: float = 0.0
    """From the start of a place's processes to its first optimizer step, while the others started too."""
    warm_start_s: float = 0.0
    """Of it, what processes needed that were there."""
    seconds: float = 0.0
    """What it took to find out."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """What was found for one shape; never without a count."""

    shape: str
    """What it holds for, as JSON."""
    tried: tuple[Tried, ...]
    """The counts rise."""
    hardware: str = field(default_factory=hardware_text)
    made_s: float = field(default_factory=time.time)
    """In seconds since the epoch."""

    @property
    def taken(self) -> Tried:
        """The fewest places that are as fast as any; one where not even that fits."""
        best = max(one.tokens_per_s or 0.0 for one in self.tried)
        return next(one for one in self.tried if (one.tokens_per_s or 0.0) >= best * (1 - _SAME))

    @property
    def gain(self) -> float:
        """Times the tokens/s of one place."""
        one, taken = self.tried[0].tokens_per_s, self.taken.tokens_per_s
        return taken / one if one and taken else 1.0

    def up_to(self, most: int) -> Places:
        """What it says of so many places."""
        return dataclasses.replace(self, tried=tuple(one for one in self.tried if one.places <= most))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Places:
        """Raises ValueError for what no version wrote."""
        return read_record(cls, tree)


def next_count(tried: Sequence[Tried], most: int, *, devices: int = 1) -> int | None:
    """How many places to try now: twice as many as last, ``most`` at the end; None where that is enough.

    It is when more did not fit, or were not faster. On several devices it is not for the latter: the next
    places may be on one that idles still.
    """
    if not tried:
        return 1
    last, earlier = tried[-1], [one.tokens_per_s or 0.0 for one in tried[:-1]]
    if last.tokens_per_s is None or last.places >= most:
        return None
    if earlier and last.tokens_per_s <= max(earlier) and devices == 1:
        return None
    return min(2 * last.places, most)


def most_that_fit(
    count: int, last: Tried, *, ranks: int, free_gib: float, on_one_device: int | None = None
) -> int | None:
    """How many of so many places memory has room for, by what a rank took before; None where that is no more
    than were tried last.

    Args:
        ranks: processes of a place.
        free_gib: of the host, while the processes of one place are there and idle; or a GPU's whole memory.
        on_one_device: ranks that share a GPU at most; None: all are in the host's memory.
    """

    def needed_gib(places: int) -> float:
        if on_one_device is not None:
            return min(places * ranks, on_one_device) * last.taken_gib
        return ranks * (places * last.taken_gib + (places - 1) * last.idle_gib)

    more = range(count, last.places, -1)
    return next((places for places in more if needed_gib(places) <= free_gib * ROOM), None)


def places_shape(config: Config, data: str) -> str:
    """All that a finding hangs on but the hardware, as a text to compare.

    Args:
        config: of one place that has the machine for itself.
        data: fingerprint of the rows.
    """
    tree = json.loads(shape_text(config, frozenset()))
    batch = config.training.global_batch_size
    return json.dumps({**tree, "global_batch_size": batch, "data": data, "asked": "places"}, sort_keys=True)


def known_places(shape: str) -> Places | None:
    """What was found before on this hardware; None where there is none, or one of another version."""
    found = read_finding(shape, Places.from_dict)
    return found if found is not None and found.hardware == hardware_text() and found.tried else None


def beside(places: Places, speed: Speed | None) -> Speed | None:
    """What was measured of one trial alone, as it is with the others beside it: a trial is as fast as one of
    several."""
    taken = places.taken
    if taken.tokens_per_s is None:
        return speed
    return Speed(
        tokens_per_s=taken.tokens_per_s / taken.places,
        spread=taken.spread,
        evaluated_tokens_per_s=taken.evaluated_tokens_per_s,
        cold_start_s=taken.cold_start_s,
        warm_start_s=speed.warm_start_s if speed is not None else taken.warm_start_s,
        places=taken.places,
    )
