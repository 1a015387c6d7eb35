"""How likely each of some configurations is the best of them, when each was trained once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.averaged import AveragedProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["LEAST_TRIALS", "chances_of_best"]

LEAST_TRIALS = 5
"""With fewer the noise of a run cannot be told from what the values do."""
_DRAWS, _SEED = 4096, 0


def chances_of_best(points: Array, losses: Array, groups: NDArray[np.intp] | None = None) -> Array:
    """(n,) chances, of sum one, by as many draws as ``_DRAWS`` from the joint posterior of Gaussian
    processes; always the same draws.

    Of few trials nobody knows how large the noise is and how far a value acts, so many answers to that are
    asked, each by how well it explains the losses: the one best answer alone may take all differences for
    noise, and then gives the best trial no chance at all.

    Args:
        points: (n, columns) of the unit box. losses: (n,), finite. groups: see ``fit_gaussian_process``.
    """
    drawn = AveragedProcess.of(points, _scaled(losses), groups, seed=_SEED).draw(_DRAWS, seed=_SEED)
    chances: Array = np.bincount(drawn.argmin(1), minlength=len(losses)) / _DRAWS
    return chances


def _scaled(losses: Array) -> Array:
    """Mean 0 and deviation 1 after a logarithm of the distance from the best, in units of the median's: how
    bad the bad ones are would drown the small differences that tell the best."""
    best, middle = float(losses.min()), float(np.median(losses))
    if middle > best:
        losses = np.log1p((losses - best) / (middle - best))
    centred: Array = (losses - losses.mean()) / (float(losses.std()) or 1.0)
    return centred
