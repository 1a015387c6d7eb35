"""Two objectives: how much a new trial is expected to add to what the Pareto front dominates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.surrogate import expected_improvement, fit_gaussian_process, telling
from sweeper.search.front import nondominated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Model = Callable[[Array], tuple[Array, Array]]
    """(m, columns) to mean and standard deviation, each (m,)."""

__all__ = ["Front", "cost_model", "expected_hypervolume"]

_TOLD = 1e-3
"""Log costs that differ from what is known before training by no more than this are known: partly filled
batches and the lengths of rows make tokens differ by less."""
_BEYOND = 0.1
"""How far beyond the worst trial the reference point lies, in standard deviations: the ends of the front
count, too."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """Of trials whose loss and cost are known, smaller is better."""

    members: NDArray[np.intp]
    """Indices of its trials, by rising cost."""
    losses: Array
    """(members,), falling."""
    costs: Array
    """(members,), rising."""
    reference: tuple[float, float]
    """Loss and cost that are worse than any that is worth a thing."""

    def some(self, count: int) -> NDArray[np.intp]:
        """At most so many members, spread evenly from the cheapest to the best."""
        places = np.linspace(0, len(self.members) - 1, min(count, len(self.members)))
        chosen: NDArray[np.intp] = self.members[places.round().astype(int)]
        return chosen

    @classmethod
    def of(cls, losses: Array, costs: Array, usable: NDArray[np.bool_]) -> Front | None:
        """From (n,) losses and costs, of which only the usable count; None where none is."""
        indices = np.flatnonzero(usable)
        if not len(indices):
            return None
        pairs = list(zip(losses[indices].tolist(), costs[indices].tolist(), strict=True))
        members = indices[nondominated(pairs)]
        worst = [
            float(one[indices].max()) + _BEYOND * (float(one[indices].std()) or 1.0)
            for one in (losses, costs)
        ]
        return cls(
            members=members, losses=losses[members], costs=costs[members], reference=(worst[0], worst[1])
        )


def expected_hypervolume(front: Front, loss: tuple[Array, Array], cost: tuple[Array, Array]) -> Array:
    """By how much each of (m,) configurations is expected to enlarge the area between the front and the
    reference point, as (m,).

    A point of the area that the front does not dominate is gained where both of the trial's objectives come
    to lie below it. Cut at the members' costs, the area is strips of one height each. For independent normal
    objectives (mean and deviation, each (m,)) a strip gives the product of two expected improvements, as the
    integral of P(y <= z) over z up to t is E[max(t - y, 0)]. (The quantity is that of Emmerich, Deutz and
    Klinkenberg 2011, CEC, pages 2147-2154.)
    """
    heights = [front.reference[0], *front.losses.tolist()]
    edges = [*front.costs.tolist(), front.reference[1]]
    gained, before = np.zeros(len(loss[0])), np.zeros(len(loss[0]))
    for edge, height in zip(edges, heights, strict=True):
        cheaper = expected_improvement(*cost, edge)
        gained += (cheaper - before) * expected_improvement(*loss, height)
        before = cheaper
    return gained


def cost_model(
    points: Array,
    costs: Array,
    known: Callable[[Array], Array] | None,
    groups: NDArray[np.intp] | None,
    most: int,
) -> Model:
    """What a configuration costs, from (n, columns) with (n,) costs, n > 1: what is known before training, up
    to a constant, and a Gaussian process of what that leaves, fitted to ``most`` points."""
    base = known or (lambda at: np.zeros(len(at)))
    left = costs - base(points)
    middle, scale = float(left.mean()), float(left.std())
    if scale < _TOLD:
        return lambda at: (base(at) + middle, np.full(len(at), _TOLD))
    used = telling(left, most)
    process = fit_gaussian_process(points[used], (left[used] - middle) / scale, groups=groups)

    def model(at: Array) -> tuple[Array, Array]:
        mean, deviation = process.predict(at)
        return base(at) + middle + scale * mean, scale * deviation

    return model
