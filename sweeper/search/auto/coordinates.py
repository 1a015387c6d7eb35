"""The open values of a space as points of a unit box, and configurations to choose from.

A number is one column, on a logarithmic scale where its values span a factor of eight or more; options that
are words are one column each. A dimension whose conditions do not hold lies at its default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sweeper.search.grid import configuration_key, configurations
from sweeper.space import Choice, IntRange, LogUniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sweeper.space import OpenValue, Scalar, Space, Values

    Array = NDArray[np.float64]
    Key = frozenset[tuple[str, Scalar]]

__all__ = ["Coordinates"]

_POOL = 512
"""Configurations of a continuous space that are looked at for each proposal, a power of two."""
_MOST_BLOCKS = 64
"""How often the next ones are taken where most of them were asked."""
_NEAR, _STEPS = 16, (0.15, 0.03)
"""Configurations around each promising one, and how far they are moved in each column."""
_LOG_FROM = 8.0


class _Configuration(NamedTuple):
    key: Key
    point: bytes
    values: Values


class Coordinates:
    """Of one space. Points are rows of shape (columns,)."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._axes = [_axis(dimension.open_value) for dimension in space.dimensions]
        ends = np.cumsum([axis.columns for axis in self._axes])
        self._columns = [slice(end - axis.columns, end) for axis, end in zip(self._axes, ends, strict=True)]
        self.groups: NDArray[np.intp] = np.repeat(
            np.arange(len(self._axes)), [axis.columns for axis in self._axes]
        )
        """(columns,): the dimension of each."""
        self._pools: dict[tuple[int, int], list[_Configuration]] = {}

    @property
    def is_continuous(self) -> bool:
        """Whether the space has more configurations than can be listed."""
        return self._every is None

    @cached_property
    def _every(self) -> list[_Configuration] | None:
        every = configurations(self._space)
        return None if every is None else [self._configuration(values) for values in every]

    def point(self, values: Mapping[str, Scalar]) -> Array:
        """Where a configuration lies."""
        parts = [
            axis.encode(values.get(dimension.name, dimension.default))
            for axis, dimension in zip(self._axes, self._space.dimensions, strict=True)
        ]
        return np.concatenate(parts)

    def values(self, point: Array) -> Values:
        """The configuration that lies nearest."""
        return self._space.active_values(
            {
                dimension.name: axis.decode(point[columns])
                for axis, dimension, columns in zip(
                    self._axes, self._space.dimensions, self._columns, strict=True
                )
            }
        )

    def candidates(self, asked: Container[Key], seed: int) -> dict[bytes, Values]:
        """Configurations whose keys nobody has asked, by the bytes of their points: all of a discrete
        space, or some that cover a continuous one evenly; when half of these were asked, the next ones.
        Empty where a discrete space has no other."""
        if self._every is not None:
            return {one.point: one.values for one in self._every if one.key not in asked}
        for block in range(_MOST_BLOCKS):
            pool = self._evenly(seed, block)
            left = {one.point: one.values for one in pool if one.key not in asked}
            # Under conditions several of them are one configuration.
            if 2 * len(left) > len({one.point for one in pool}):
                break
        return left

    def around(self, points: Array, seed: int) -> Array:
        """(m, columns): configurations near those of (k, columns), some nearer and some farther."""
        rng = np.random.default_rng(seed)
        found: list[Array] = []
        for point in points:
            for place in range(_NEAR):
                moved = point.copy()
                chosen = rng.random(len(self._axes)) < max(0.3, 1.0 / len(self._axes))
                chosen[rng.integers(len(self._axes))] = True
                for axis, columns in [
                    (axis, columns)
                    for axis, columns, is_chosen in zip(self._axes, self._columns, chosen, strict=True)
                    if is_chosen
                ]:
                    moved[columns] = axis.moved(point[columns], _STEPS[place % len(_STEPS)], rng)
                found.append(self.point(self.values(moved)))
        return np.unique(np.array(found), axis=0)

    def _evenly(self, seed: int, block: int) -> list[_Configuration]:
        """The pool of that place in a sequence that covers the space."""
        if (seed, block) not in self._pools:
            from scipy.stats.qmc import Sobol

            points = Sobol(len(self._axes), rng=np.random.default_rng(seed)).random(_POOL * (block + 1))
            pool = [self._configuration(self._values_at(point)) for point in points[_POOL * block :]]
            self._pools[seed, block] = pool
        return self._pools[seed, block]

    def _configuration(self, values: Values) -> _Configuration:
        return _Configuration(configuration_key(values), self.point(values).tobytes(), values)

    def _values_at(self, fractions: Array) -> Values:
        pairs = zip(self._space.dimensions, self._axes, fractions, strict=True)
        return self._space.active_values({one.name: axis.value_at(float(at)) for one, axis, at in pairs})


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One dimension: how its values become columns, and back."""

    columns: int
    encode: Callable[[Scalar], Array]
    decode: Callable[[Array], Scalar]
    value_at: Callable[[float], Scalar]
    """Of a fraction from 0 to 1: values equally likely."""
    is_number: bool

    def moved(self, place: Array, step: float, rng: np.random.Generator) -> Array:
        """A place nearby: a step of a number, another option of words."""
        if not self.is_number:
            return self.encode(self.value_at(float(rng.random())))
        return np.clip(place + step * rng.standard_normal(len(place)), 0.0, 1.0)


def _axis(open_value: OpenValue) -> _Axis:
    if isinstance(open_value, (Choice, IntRange)):
        options = _options(open_value)
        numbers = [one for one in options if isinstance(one, (int, float)) and not isinstance(one, bool)]
        if len(numbers) == len(options):
            return _axis_of_numbers(sorted(numbers))
        return _axis_of_words(options)
    low, high, is_log = open_value.low, open_value.high, isinstance(open_value, LogUniform)
    to, back = _scale(low, high, is_log)
    return _Axis(
        columns=1,
        encode=lambda value: np.array([to(float(value))]),
        decode=lambda place: back(float(place[0])),
        value_at=back,
        is_number=True,
    )


def _axis_of_numbers(options: list[int | float]) -> _Axis:
    low, high = options[0], options[-1]
    to, _ = _scale(low, high, low > 0 and high / low >= _LOG_FROM)
    places = np.array([to(option) for option in options])

    def decode(place: Array) -> Scalar:
        return options[int(np.abs(places - place[0]).argmin())]

    return _Axis(
        columns=1,
        encode=lambda value: np.array([to(float(value))]),
        decode=decode,
        value_at=lambda at: options[min(int(at * len(options)), len(options) - 1)],
        is_number=True,
    )


def _axis_of_words(options: tuple[Scalar, ...]) -> _Axis:
    corners = np.eye(len(options)) / math.sqrt(2.0)  # two options are as far apart as the ends of a range
    return _Axis(
        columns=len(options),
        encode=lambda value: corners[options.index(value)],
        decode=lambda place: options[int(place.argmax())],
        value_at=lambda at: options[min(int(at * len(options)), len(options) - 1)],
        is_number=False,
    )


def _options(open_value: Choice | IntRange) -> tuple[Scalar, ...]:
    if isinstance(open_value, Choice):
        return open_value.options
    return tuple(range(open_value.low, open_value.high + 1, open_value.step))


def _scale(
    low: float, high: float, is_log: bool
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From a value to 0 to 1, and back."""
    if high <= low:
        return lambda value: 0.5, lambda place: low
    if not is_log:
        return lambda value: (value - low) / (high - low), lambda place: low + place * (high - low)
    ratio = math.log(high / low)
    return (
        lambda value: math.log(value / low) / ratio,
        lambda place: min(max(low * math.exp(place * ratio), low), high),
    )
