"""How many trials run side by side, where that is left to measuring."""

from __future__ import annotations

from dataclasses import replace

from sweeper.spec import rules
from sweeper.spec.address import cluster_address
from sweeper.spec.plan import count_trials
from sweeper.spec.space import Space
from sweeper.spec.values import points

__all__ = ["PLACES", "most_places", "to_be_shared", "with_places"]

PLACES = "resources.max_concurrent"
_CPUS, _GPUS = "resources.cpus_per_rank", "resources.gpus_per_rank"


def to_be_shared(space: Space) -> Space:
    """The space with its ``max_concurrent`` left to measuring, and one trial at once until then.

    It is the space as it is where there is nothing to share: trials that need whole devices, one that takes
    all there is, and a cluster, which cannot be looked at from here.
    """
    closed = space.closed
    elsewhere = cluster_address(closed["resources.ray_address"]) is not None
    if elsewhere or closed[_GPUS] >= 1 or most_places(space) == 1:
        return space
    left = frozenset({PLACES} | ({_CPUS} & space.decided))
    return replace(with_places(space, 1), shared=left)


def most_places(space: Space) -> int:
    """Trials that there is room for side by side: each rank has a core, or the cores and the share of a
    device that the file says. No more than the sweep has trials; 1 at least."""
    closed, ranks = space.closed, _most_ranks(space)
    if closed[_GPUS] > 0:
        facts = space.facts
        room = rules.max_concurrent(devices=facts.devices, cpus=facts.cpus, ranks=ranks, gpus=closed[_GPUS])
    else:
        cores = 1 if _CPUS in space.decided else closed[_CPUS]
        room = space.facts.cpus // (ranks * cores)
    return max(1, min(room, count_trials(space)))


def with_places(space: Space, places: int) -> Space:
    """The space with so many trials side by side, and nothing of it left to measuring; the cores are shared
    out among them unless the file says how many a rank has."""
    closed = {**space.closed, PLACES: places}
    if _CPUS in space.decided:
        closed[_CPUS] = rules.cpus_per_rank(
            cpus=space.facts.cpus, ranks=_most_ranks(space), concurrent=places
        )
    return replace(space, closed=closed, shared=frozenset())


def _most_ranks(space: Space) -> int:
    """Of the largest trial."""
    dp = space.dimension("parallel.dp")
    replicas = space.closed["parallel.dp"] if dp is None else max(map(int, points(dp.open_value)))
    return int(replicas * space.closed["parallel.pp"] * space.closed["parallel.tp"])
