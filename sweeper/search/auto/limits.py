"""Constraints: how likely a configuration keeps to all bounds.

The improvement that is expected of a configuration counts with the probability that it may be chosen at all
(Gardner et al. 2014, ICML, "Bayesian optimization with inequality constraints"); each bound has a Gaussian
process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.surrogate import fit_gaussian_process, telling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Limits"]

_MOST = 1e6
"""What an infinite excess counts as."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What trials exceed bounds by."""

    points: Array
    """(n, columns)."""
    excesses: Array
    """(n, bounds), above 0 where a bound is broken; not a number where that is not known."""

    @classmethod
    def of(cls, points: Array, excesses: Sequence[tuple[float, ...]]) -> Limits | None:
        """None where nothing of them is known. ``excesses`` of each point, empty where they are not."""
        bounds = max(map(len, excesses), default=0)
        if not bounds:
            return None
        return cls(points=points, excesses=np.array([one or (np.nan,) * bounds for one in excesses]))

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(n,): which trials keep to all bounds, as far as that is known."""
        kept: NDArray[np.bool_] = np.all(~(self.excesses > 0), axis=1)
        return kept

    def chances(self, groups: NDArray[np.intp] | None, most: int) -> Callable[[Array], Array]:
        """How likely each of (m, columns) keeps to all of them, as (m,); the bounds are taken as independent.
        The models are fitted to ``most`` points."""
        known = ~np.isnan(self.excesses).any(1)
        models = [_model(self.points[known], column, groups, most) for column in self.excesses[known].T]

        def chances(at: Array) -> Array:
            product: Array = np.prod([model(at) for model in models], axis=0)
            return product

        return chances


def _model(
    points: Array, excesses: Array, groups: NDArray[np.intp] | None, most: int
) -> Callable[[Array], Array]:
    """Of one bound. A logarithm to both sides of 0 keeps what is far beyond from hiding where the bound
    is."""
    from scipy.special import ndtr

    bent = np.sign(excesses) * np.log1p(np.minimum(np.abs(excesses), _MOST))
    middle, scale = float(bent.mean()), float(bent.std()) or 1.0
    used = telling(bent, most)
    process = fit_gaussian_process(points[used], (bent[used] - middle) / scale, groups=groups)

    def chance(at: Array) -> Array:
        mean, deviation = process.predict(at)
        kept: Array = ndtr(-(middle + scale * mean) / (scale * deviation))
        return kept

    return chance
