"""How likely each of some configurations is the best of them, when each was trained once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.surrogate import fit_gaussian_process

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["LEAST_TRIALS", "chances_of_best"]

LEAST_TRIALS = 5
"""With fewer the noise of a run cannot be told from what the values do."""
_SAMPLES, _SEED = 4096, 0
_CUT = 3.0
"""Losses are cut at the best plus so many times the distance of the median from it: how bad the bad ones are
says nothing about which is the best, and would drown the small differences that do."""


def chances_of_best(points: Array, losses: Array, groups: NDArray[np.intp] | None = None) -> Array:
    """(n,) chances, of sum one, by as many draws as ``_SAMPLES`` from the joint posterior of a Gaussian
    process; always the same draws.

    What is best is told of the process itself: a loss is one run of it, with the noise that was fitted.

    Args:
        points: (n, columns) of the unit box. losses: (n,), finite. groups: see ``fit_gaussian_process``.
    """
    best, middle = float(losses.min()), float(np.median(losses))
    if middle > best:
        losses = np.minimum(losses, best + _CUT * (middle - best))
    targets = (losses - losses.mean()) / (float(losses.std()) or 1.0)
    mean, covariance = fit_gaussian_process(points, targets, groups=groups).joint()
    variances, axes = np.linalg.eigh(covariance)
    normal = np.random.default_rng(_SEED).standard_normal((_SAMPLES, len(losses)))
    drawn = mean + normal @ (axes * np.sqrt(np.maximum(variances, 0.0))).T
    chances: Array = np.bincount(drawn.argmin(1), minlength=len(losses)) / _SAMPLES
    return chances
