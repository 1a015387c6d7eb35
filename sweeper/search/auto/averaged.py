"""Gaussian processes of many lengthscales and noises, weighted by how well they explain what was seen.

The search itself goes by the most probable one, which is cheap and good enough to choose where to look
next. A probability that is told needs all of them: with few points the most probable one is too sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.surrogate import JITTER, log_length_prior, matern, most_probable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["AveragedProcess"]

_SAMPLES = 128
"""Half of them are drawn from the prior, half around the most probable one."""
_AROUND = 0.5
"""How far around, in logarithms."""
_LOG_NOISE, _NOISE_DEVIATION = float(np.log(0.02)), 1.5
"""The prior of the log noise variance, in units of the signal's. It is wide: two runs of one configuration
may come to the same or to far different losses, and few trials do not tell which."""
_LEVEL = 1.0
"""The variance of the common level, in units of the signal's: the mean of few points is not known, either."""
_SHAPE = _RATE = 1.0
"""The inverse gamma prior of the signal's variance: as two observations of variance one."""


@dataclass(frozen=True, kw_only=True)
class AveragedProcess:
    """The posterior at the points (n, columns) that it was told."""

    weights: Array
    """(samples,), together one."""
    means: Array
    """(samples, n)."""
    covariances: Array
    """(samples, n, n), in units of the signal's variance."""
    rates: Array
    """(samples,): of the inverse gamma distribution of that variance."""

    @classmethod
    def of(
        cls, points: Array, targets: Array, groups: NDArray[np.intp] | None = None, *, seed: int
    ) -> AveragedProcess:
        """By importance sampling; the signal's variance is integrated in closed form.

        Args:
            points: (n, columns) of the unit box. targets: (n,), of mean 0 and deviation 1. groups: see
                ``fit_gaussian_process``.
        """
        from scipy.special import logsumexp

        count, columns = points.shape
        groups = np.arange(columns) if groups is None else groups
        thetas, log_ratios = _proposals(points, targets, groups, np.random.default_rng(seed))
        signal = _kernels(points, np.exp(thetas[:, :-1]), groups)
        noise = (np.exp(thetas[:, -1])[:, None, None] + JITTER) * np.eye(count)
        lower = np.linalg.cholesky(signal + noise)
        whitened = np.linalg.solve(lower, np.broadcast_to(targets[:, None], (_SAMPLES, count, 1)))
        across = np.linalg.solve(lower, signal)
        rates = _RATE + 0.5 * (whitened**2).sum((1, 2))
        evidence = -np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
        log_weights = log_ratios + evidence - (_SHAPE + count / 2) * np.log(rates)
        return cls(
            weights=np.exp(log_weights - logsumexp(log_weights)),
            means=(across.transpose(0, 2, 1) @ whitened)[:, :, 0],
            covariances=signal - across.transpose(0, 2, 1) @ across,
            rates=rates,
        )

    def draw(self, count: int, *, seed: int) -> Array:
        """(count, n): what the losses are without their noise."""
        rng, size = np.random.default_rng(seed), self.means.shape[1]
        places = (np.arange(count) + 0.5) / count
        chosen = np.searchsorted(np.cumsum(self.weights), places).clip(max=len(self.weights) - 1)
        normal = rng.standard_normal((count, size))
        variances = self.rates[chosen] / rng.gamma(_SHAPE + size / 2, size=count)
        drawn: Array = self.means[chosen]
        for sample in np.unique(chosen):
            mine = chosen == sample
            spectrum, axes = np.linalg.eigh(self.covariances[sample])
            spread = normal[mine] @ (axes * np.sqrt(np.maximum(spectrum, 0.0))).T
            drawn[mine] += np.sqrt(variances[mine])[:, None] * spread
        return drawn


def _proposals(
    points: Array, targets: Array, groups: NDArray[np.intp], rng: np.random.Generator
) -> tuple[Array, Array]:
    """(samples, dimensions + 1) log lengthscales and log noise, and (samples,) the logarithm of their prior's
    density over that of what they were drawn from, up to a constant."""
    dimensions = int(groups.max()) + 1
    middle = np.append(np.full(dimensions, log_length_prior(dimensions)), _LOG_NOISE)
    deviation = np.append(np.ones(dimensions), _NOISE_DEVIATION)
    near = most_probable(points, targets, groups)
    normal = rng.standard_normal((_SAMPLES, dimensions + 1))
    half = _SAMPLES // 2
    thetas = np.concatenate([middle + deviation * normal[:half], near + _AROUND * normal[half:]])
    prior = _log_density(thetas, middle, deviation)
    around = _log_density(thetas, near, np.full(dimensions + 1, _AROUND))
    log_ratios: Array = prior - np.logaddexp(prior, around)
    return thetas, log_ratios


def _log_density(at: Array, middle: Array, deviation: Array) -> Array:
    density: Array = -0.5 * (((at - middle) / deviation) ** 2).sum(1) - np.log(deviation).sum()
    return density


def _kernels(points: Array, lengths: Array, groups: NDArray[np.intp]) -> Array:
    """(samples, n, n) for (samples, dimensions) lengthscales."""
    differences = (points[:, None] - points[None]) ** 2
    by_dimension = np.stack([differences[:, :, groups == one].sum(2) for one in range(lengths.shape[1])])
    kernels: Array = matern(np.tensordot(lengths**-2.0, by_dimension, 1)) + _LEVEL
    return kernels
