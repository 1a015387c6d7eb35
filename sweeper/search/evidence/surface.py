"""What the search's Gaussian process says of configurations, in the units of the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.sure import LEAST_TRIALS
from sweeper.search.auto.surrogate import GaussianProcess, fit_gaussian_process
from sweeper.search.confirm import Interval
from sweeper.search.extending import space_in_force
from sweeper.search.front import ranked
from sweeper.search.records import TrialRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sweeper.space import Scalar, Space

    Array = NDArray[np.float64]

__all__ = ["Surface", "surface_of"]

_MOST_TRIALS, _CUT, _NORMAL = 150, 3.0, 1.96
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

    @property
    def noise(self) -> float:
        """Standard deviation of one run around what its configuration gives, as it was fitted."""
        return self.scale * math.sqrt(self.process.noise)

    def predict(self, configurations: Sequence[Mapping[str, Scalar]]) -> tuple[Array, Array]:
        """Mean and standard deviation, each (m,), of the objective without the noise of a run."""
        mean, deviation = self.process.predict(self._points(configurations))
        return self.sign * (self.middle + self.scale * mean), self.scale * deviation

    def gain(self, trial: int, other: int) -> Interval | None:
        """How much better one trial's configuration is than another's, positive also under ``max``; None
        where a loss was so bad that it was cut."""
        if trial not in self.places or other not in self.places:
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

    def _points(self, configurations: Sequence[Mapping[str, Scalar]]) -> Array:
        return np.array([self.coordinates.point(one) for one in configurations])

    def _interval(self, weights: Array, mean: Array, covariance: Array) -> Interval:
        middle = self.scale * float(weights @ mean)
        half = _NORMAL * self.scale * math.sqrt(max(float(weights @ covariance @ weights), 0.0))
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
