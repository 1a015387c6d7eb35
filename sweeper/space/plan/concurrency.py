"""How many trials run side by side."""

from __future__ import annotations

from dataclasses import replace

from sweeper.space.config import rules
from sweeper.space.config.values import points
from sweeper.space.space import Space

__all__ = ["with_concurrency"]

_TRIALS, _CPUS = "resources.max_concurrent", "resources.cpus_per_rank"


def with_concurrency(space: Space, trials: int) -> Space:
    """The space with so many trials side by side; the cores are shared out among them unless the file says
    how many a rank has."""
    closed = {**space.closed, _TRIALS: trials}
    if _CPUS in space.decided:
        ranks = _most_ranks(space)
        closed[_CPUS] = rules.cpus_per_rank(cpus=space.facts.cpus, ranks=ranks, concurrent=trials)
    return replace(space, closed=closed)


def _most_ranks(space: Space) -> int:
    """Of the largest trial."""
    dp = space.dimension("parallel.dp")
    replicas = space.closed["parallel.dp"] if dp is None else max(map(int, points(dp.open_value)))
    return int(replicas * space.closed["parallel.pp"] * space.closed["parallel.tp"])
