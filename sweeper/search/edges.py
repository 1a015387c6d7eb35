"""Whether the best trial lies at an end of what was searched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.search.front import order
from sweeper.search.records import TrialRecord, TrialState, searched
from sweeper.space import Choice, Extend, LogUniform, Side, is_number, is_ordered, wider

if TYPE_CHECKING:
    from sweeper.space import Dimension, OpenValue, Scalar, Space

__all__ = ["Edge", "edges"]

_NEAR = 0.05
"""So near to an end of a range, in parts of its width, is at its end."""
_WITNESSES, _OF = 3, 4
"""The best quarter of the trials, three beside the best at most, must all lie in that half of the range: else
its end is not what matters."""

_TELLING = (TrialState.COMPLETE, TrialState.PAUSED, TrialState.PRUNED)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The best trial lies at an end of what was searched, and the field allows more."""

    name: str
    value: Scalar
    """The best trial's."""
    side: Side
    searched: OpenValue
    wider: OpenValue
    """What to search instead."""


def edges(space: Space, records: Sequence[TrialRecord]) -> list[Edge]:
    """Where the best trial lies at an end: within 5 % of a range's width (on a log scale for a log range), or
    the first or last of at least three numbers, while the next best ones lie in that half, too: a quarter of
    all trials, one at least and three at most.

    The best was trained to its end; of the others one that was paused or stopped counts by the value that it
    had then: with a stopper few are trained to their ends. ``space`` is the one in force, see
    ``space_in_force``; with a proxy all of them are trials on it. Empty while there is one such trial: alone
    it says nothing about where the best lies.
    """
    objective = space.settings.objective
    best = next(iter(order(searched(records), objective)), None)
    sign = 1.0 if objective.mode == "min" else -1.0
    others = [
        (sign * record.value, record.number, record)
        for record in searched(records)
        if record.state in _TELLING and record is not best
        if record.value is not None and math.isfinite(record.value)
    ]
    if best is None or not others:
        return []
    witnesses = max(1, min((1 + len(others)) // _OF, _WITNESSES))
    ranked = [best, *(one for _, _, one in sorted(others, key=lambda entry: entry[:2])[:witnesses])]
    found = (_edge(space, one, ranked) for one in space.dimensions)
    return [one for one in found if one is not None]


def _edge(space: Space, dimension: Dimension, ranked: Sequence[TrialRecord]) -> Edge | None:
    open_value = dimension.open_value
    places = [
        _place(open_value, one.values[dimension.name]) for one in ranked if dimension.name in one.values
    ]
    if not is_ordered(open_value) or dimension.name not in ranked[0].values:
        return None
    sides: tuple[Side, Side] = "lower", "upper"
    for side in sides:
        inward = places if side == "lower" else [1 - one for one in places]
        factor = (space.settings.search.extension or Extend()).factor
        if inward[0] > _NEAR or any(one > 0.5 for one in inward):
            continue
        grown = wider(dimension, side, factor)
        value = ranked[0].values[dimension.name]
        if grown is not None:
            return Edge(name=dimension.name, value=value, side=side, searched=open_value, wider=grown)
    return None


def _place(open_value: OpenValue, value: Scalar) -> float:
    """From 0, the lower end, to 1: by the width of a range, or by the rank in a list; 0.5 for a word."""
    if not is_number(value):
        return 0.5
    if isinstance(open_value, Choice):
        numbers = sorted(one for one in open_value.options if is_number(one))
        return sum(one < value for one in numbers) / max(len(numbers) - 1, 1)
    low, high = open_value.low, open_value.high
    if isinstance(open_value, LogUniform):
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
