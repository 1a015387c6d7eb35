"""What the search's Gaussian process says of configurations, in the units of the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.sure import LEAST_TRIALS
from sweeper.search.auto.surrogate import GaussianProcess, expected_improvement, fit_gaussian_process
from sweeper.search.extending import space_in_force
from sweeper.search.finals.confirm import Interval
from sweeper.search.front import ranked
from sweeper.search.grid import configuration_key
from sweeper.search.records import TrialRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sweeper.space import Scalar, Space, Values

    Array = NDArray[np.float64]

__all__ = ["Surface", "surface_of"]

_MOST_TRIALS, _CUT, _NORMAL, _TELLS = 150, 3.0, 1.96, 0.4
"""As in ``how_sure``: of more trials only the best, losses cut at the best plus thrice the distance of the
median from it. An interval holds 95 %."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The process, fitted to the complete trials."""

    space: Space
    coordinates: Coordinates
    process: GaussianProcess
    places: Mapping[int, int]
    """Number of a trial -> its row among the process's points, of those whose loss was not cut."""
    sign: float
    """-1 where more is better."""
    middle: float
    scale: float

    @cached_property
    def widening(self) -> float:
        """By how much more than the process says its own predictions of trials that are left out are off; 1
        where they are not. Every standard deviation here is so much larger: few trials are fitted too
        well."""
        off, deviation = self.process.left_out()
        return max(1.0, float(np.sqrt(np.mean((off / deviation) ** 2))))

    @cached_property
    def explained(self) -> float:
        """Which part of the variance of trials that are left out the others predict; 0 or less: none."""
        off, _ = self.process.left_out()
        variance = float(np.var(self.process.targets))
        return 1.0 - float(np.mean(off**2)) / variance if variance > 0 else 0.0

    @property
    def tells(self) -> bool:
        """Whether it may be gone by: on losses that are noise alone, 24 trials of four values, the explained
        part came to 0.23 at most (8 seeds), where the values did something to 0.45 and more."""
        return self.explained >= _TELLS

    @property
    def noise(self) -> float:
        """Standard deviation of one run around what its configuration gives; where the process does not tell,
        of all that it cannot predict."""
        return self.error if not self.tells else self.widening * self.scale * math.sqrt(self.process.noise)

    @property
    def error(self) -> float:
        """Standard deviation of a trial around what all others say of it: the noise of a run, and what is not
        known of its configuration."""
        off, _ = self.process.left_out()
        return self.scale * float(np.sqrt(np.mean(off**2)))

    def predict(self, configurations: Sequence[Mapping[str, Scalar]]) -> tuple[Array, Array]:
        """Mean and standard deviation, each (m,), of the objective without the noise of a run."""
        mean, deviation = self.process.predict(self._points(configurations))
        return self.sign * (self.middle + self.scale * mean), self.widening * self.scale * deviation

    def gain(self, trial: int, other: int) -> Interval | None:
        """How much better one trial's configuration is than another's, positive also under ``max``; None
        where a loss was so bad that it was cut, or where the process does not tell."""
        if not self.tells or trial not in self.places or other not in self.places:
            return None
        mean, covariance = self.process.joint()
        weights = np.zeros(len(mean))
        weights[self.places[other]] += 1.0
        weights[self.places[trial]] -= 1.0
        return self._interval(weights, mean, covariance)

    def effect(self, name: str, value: Scalar, other: Scalar) -> Interval:
        """How much worse ``other`` is than ``value`` of one dimension, on average over what the trials have
        in all the others."""
        seen = [self.coordinates.values(point) for point in self.process.points]
        changed = [{**one, name: which} for which in (value, other) for one in seen]
        mean, covariance = self.process.joint(self._points(changed))
        count = len(seen)
        return self._interval(np.repeat([-1.0, 1.0], count) / count, mean, covariance)

    def behind(self, best: Mapping[str, Scalar], others: Sequence[Mapping[str, Scalar]]) -> list[Interval]:
        """How much worse each of some configurations is than one."""
        mean, covariance = self.process.joint(self._points([best, *others]))
        found = []
        for index in range(1, len(mean)):
            weights = np.zeros(len(mean))
            weights[0], weights[index] = -1.0, 1.0
            found.append(self._interval(weights, mean, covariance))
        return found

    def promise(self, best: Mapping[str, Scalar], tried: Sequence[Values]) -> float:
        """The largest improvement on a configuration that is expected of one that was not tried, among some
        that cover the space evenly and some around the best; 0 where none is left."""
        left = self.coordinates.candidates(set(map(configuration_key, tried)), seed=0)
        pool = [np.frombuffer(key) for key in left]
        if self.coordinates.is_continuous:
            pool += list(self.coordinates.around(self._points([best]), seed=0))
        if not pool:
            return 0.0
        mean, deviation = self.process.predict(np.array(pool))
        reached, _ = self.process.predict(self._points([best]))
        return self.scale * float(expected_improvement(mean, deviation, float(reached[0])).max())

    def _points(self, configurations: Sequence[Mapping[str, Scalar]]) -> Array:
        return np.array([self.coordinates.point(one) for one in configurations])

    def _interval(self, weights: Array, mean: Array, covariance: Array) -> Interval:
        middle = self.scale * float(weights @ mean)
        half = (
            _NORMAL * self.widening * self.scale * math.sqrt(max(float(weights @ covariance @ weights), 0.0))
        )
        return Interval(mean=middle, low=middle - half, high=middle + half)


def surface_of(space: Space, records: Sequence[TrialRecord]) -> Surface | None:
    """None where fewer than five trials are complete: then the noise of a run cannot be told from what the
    values do."""
    complete = ranked(records, space.settings.objective)[:_MOST_TRIALS]
    if len(complete) < LEAST_TRIALS or not space.dimensions:
        return None
    asked = space_in_force(space, records)
    coordinates, sign = Coordinates(asked), 1.0 if space.settings.objective.mode == "min" else -1.0
    losses = np.array([sign * (one.final_value or 0.0) for one in complete])
    cut = float(losses.min()) + _CUT * (float(np.median(losses)) - float(losses.min()))
    kept = np.minimum(losses, cut) if cut > losses.min() else losses
    middle, scale = float(kept.mean()), float(kept.std()) or 1.0
    points = np.array([coordinates.point(one.values) for one in complete])
    process = fit_gaussian_process(points, (kept - middle) / scale, groups=coordinates.groups)
    uncut = [place for place in range(len(complete)) if kept[place] == losses[place]]
    return Surface(
        space=asked,
        coordinates=coordinates,
        process=process,
        places={complete[place].number: place for place in uncut},
        sign=sign,
        middle=middle,
        scale=scale,
    )
