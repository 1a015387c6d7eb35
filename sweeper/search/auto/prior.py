"""What past sweeps say about a configuration, and how far they are to be trusted.

Each past sweep is a surrogate of its own on the normal scores of its losses, so that no scale of losses is
shared. How much a past sweep counts is how well it orders the trials of this one, pair by pair, against the
hypothesis that history says nothing; a history that misleads loses its weight after a few trials.

The trials of all past sweeps together are one more, as likely as all of them: what sweeps of a few trials
each have in common shows only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.surrogate import GaussianProcess, fit_gaussian_process, normal_scores, telling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["PastSweep", "Prior"]

_SLIP = 0.25
"""The chance that a past sweep which is like this one orders a pair of trials the other way round."""
_NOTHING = 0.2
"""The prior probability that history says nothing about this sweep."""
_FEWEST, _MOST = 3, 300
"""Trials of a past sweep that are worth a surrogate, and those that a surrogate is fitted to at most."""


@dataclass(frozen=True, kw_only=True)
class PastSweep:
    """The finished trials of another sweep, in the coordinates of this one."""

    points: Array
    """(n, columns)."""
    losses: Array
    """(n,): the best loss of each, infinite where it diverged."""
    similarity: float
    """How alike the two sweeps are by what is known before training: above 0, at most 1."""


class Prior:
    """History as seen from one sweep. Does not change once it is made."""

    def __init__(self, sweeps: Sequence[PastSweep], groups: NDArray[np.intp] | None = None) -> None:
        usable = [sweep for sweep in sweeps if len(sweep.losses) >= _FEWEST]
        scores = [normal_scores(sweep.losses) for sweep in usable]
        self._surrogates = [
            _surrogate(sweep.points, own, groups) for sweep, own in zip(usable, scores, strict=True)
        ]
        self._base = np.array([sweep.similarity for sweep in usable])
        if len(usable) > 1:
            together = np.concatenate([sweep.points for sweep in usable])
            self._surrogates.append(_surrogate(together, np.concatenate(scores), groups))
            self._base = np.append(self._base, self._base.sum())
        self._scored: tuple[Array, Array] | None = None

    def __len__(self) -> int:
        return len(self._surrogates)

    def scores(self, points: Array) -> Array:
        """(surrogates, m): what each past sweep expects at (m, columns), as normal scores. Remembers the last
        answer, as the candidates of a space that can be enumerated are the same for every proposal."""
        if self._scored is None or self._scored[0] is not points:
            self._scored = points, np.stack([one.process.predict(points)[0] for one in self._surrogates])
        return self._scored[1]

    def weights(self, scores: Array, losses: Array) -> tuple[Array, float]:
        """The probability of each past sweep to be like this one (together 1), and the trust in any of them.

        Args:
            scores: (sweeps, n), what each expected of this sweep's trials.
            losses: (n,), what became of them. They count as n - 1 independent pairs.
        """
        count = len(losses)
        evidence = np.zeros(len(self))
        if count >= 2:
            order = np.sign(losses[:, None] - losses[None])
            pairs = max(1, int((order != 0).sum()))
            for one, expected in enumerate(scores):
                wrong = float((np.sign(expected[:, None] - expected[None]) * order < 0).sum()) / pairs
                bits = (1 - wrong) * np.log2(2 * (1 - _SLIP)) + wrong * np.log2(2 * _SLIP)
                evidence[one] = (count - 1) * bits
        likely = self._base / self._base.sum() * 2.0**evidence
        something = (1 - _NOTHING) * float(likely.sum())
        return likely / likely.sum(), something / (something + _NOTHING)

    def pick(self, candidates: Array, tried: Array, weights: Array) -> int:
        """The candidate that most lowers the expected regret of the best of all tried (a greedy cover).

        Regret is 0 at what a past sweep expects to be its best candidate, and 1 at its median.

        Args:
            candidates: (sweeps, m), their scores.
            tried: (sweeps, n), the scores of this sweep's trials.
            weights: (sweeps,).
        """
        best = candidates.min(1, keepdims=True)
        if tried.size:
            best = np.minimum(best, tried.min(1, keepdims=True))
        scale = np.array([max(-one.best, 0.5) for one in self._surrogates])[:, None]
        regret = np.clip((candidates - best) / scale, 0.0, 1.0)
        have = np.ones((len(self), 1))
        if tried.size:
            have = np.clip((tried - best) / scale, 0.0, 1.0).min(1, keepdims=True)
        covered = weights @ np.minimum(have, regret)
        return int(np.argmin(covered + 0.05 * (weights @ candidates)))


@dataclass(frozen=True, kw_only=True)
class _Surrogate:
    process: GaussianProcess
    best: float
    """The smallest normal score of its sweep."""


def _surrogate(points: Array, scores: Array, groups: NDArray[np.intp] | None) -> _Surrogate:
    used = telling(scores, _MOST)
    process = fit_gaussian_process(points[used], scores[used], groups=groups)
    return _Surrogate(process=process, best=float(scores.min()))
