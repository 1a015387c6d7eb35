"""The distinct configurations of a space in which every open value is discrete."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from sweeper.space import Choice, IntRange, LogUniform, Uniform

if TYPE_CHECKING:
    from sweeper.space import Dimension, OpenValue, Scalar, Space, Values

__all__ = ["LIMIT", "configuration_key", "configurations", "continuous_dimensions", "unasked"]

LIMIT = 10_000
"""Configurations beyond which a space is not enumerated: no sweep trains that many."""


def continuous_dimensions(space: Space) -> list[tuple[Dimension, Uniform | LogUniform]]:
    """The dimensions that no grid can enumerate, with their ranges."""
    return [(d, d.open_value) for d in space.dimensions if isinstance(d.open_value, (Uniform, LogUniform))]


def configurations(space: Space, limit: int = LIMIT) -> list[Values] | None:
    """Every distinct configuration once, in the order of the file; None where it cannot be enumerated.

    A dimension whose conditions do not hold has no value in a configuration, so two configurations that
    would differ only there are one. None: a dimension is continuous, or there are more than ``limit``.
    """
    if continuous_dimensions(space):
        return None
    partial: list[Values] = [{}]
    for dimension in space.dimensions:
        options = _options(dimension.open_value)
        longer: list[Values] = []
        for values in partial:
            if space.is_active(dimension, values):
                longer.extend({**values, dimension.name: option} for option in islice(options, limit + 1))
            else:
                longer.append(values)
            if len(longer) > limit:
                return None
        partial = longer
    return partial


def configuration_key(values: Values) -> frozenset[tuple[str, Scalar]]:
    """Equal for equal configurations, whatever the order of their dimensions; 2 equals 2.0."""
    return frozenset(values.items())


def unasked(space: Space, asked: Iterable[Values]) -> list[Values] | None:
    """The configurations that are not among ``asked``; None where they cannot be enumerated."""
    every = configurations(space)
    if every is None:
        return None
    seen = {configuration_key(values) for values in asked}
    return [values for values in every if configuration_key(values) not in seen]


def _options(open_value: OpenValue) -> tuple[Scalar, ...] | range:
    """The values of a discrete open value, in order."""
    if isinstance(open_value, Choice):
        return open_value.options
    if isinstance(open_value, IntRange):
        return range(open_value.low, open_value.high + 1, open_value.step)
    raise TypeError(f"{open_value} is continuous")
