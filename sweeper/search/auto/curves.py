"""Where a learning curve will end: the chance that a trial still beats the best, told at any point of its
training.

With s the fall of the best loss so far over the last doubling of tokens, the best loss still to come is

    best so far - c * (s * log2(total / tokens) + resolution)

For a power law c is below one; for a low learning rate that learns late, or before a schedule falls, it is
above. log2 c is taken for normal. Its mean and spread, by the part of the training that is over, start from
a wide built-in table and move to what finished curves show: those of past sweeps, and those of this sweep's
control trials, which a coin chose before they started, so that they are not a selection of the stopper's
own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Curve", "CurveModel", "SeenInPast", "part_of", "resolution_of", "seen_in_past"]

_EDGES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85)
"""Where each part of the training begins."""
_MEANS = (0.5, 0.0, -0.5, -1.0, -1.0, -1.0, -1.0)
_SPREADS = (3.0, 2.5, 2.0, 1.7, 1.5, 1.5, 1.5)
"""log2 c for each part where nothing is known: an early curve may hide almost anything."""
_PSEUDO_SWEEPS = 8.0
"""The weight of the built-in table, in sweeps."""
_FEW_SWEEPS = 3
"""Below so many sweeps the spread is never less than the built-in one."""
_GOOD = 0.3
"""The part of a past sweep's curves that is learned from: only those that could have been the best."""
_SCHEDULE_DOUBLINGS = 1.0
"""How much log2 c rises while all of the schedule's fall lies ahead: losses fall with the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The losses of one trial, smaller is better, infinite where it diverged."""

    tokens: tuple[float, ...]
    """Rising, above zero."""
    losses: tuple[float, ...]
    total_tokens: float
    """Of the whole training."""
    fall_ahead: tuple[float, ...] = ()
    """For each evaluation the part of the learning rate's fall that is still to come, 0 to 1; empty: none
    falls."""

    @property
    def best(self) -> float:
        """The smallest loss so far; infinite before the first evaluation."""
        return min(self.losses, default=math.inf)

    def until(self, evaluations: int) -> Curve:
        """The curve as it was after so many evaluations."""
        return replace(
            self,
            tokens=self.tokens[:evaluations],
            losses=self.losses[:evaluations],
            fall_ahead=self.fall_ahead[:evaluations],
        )

    def as_judged(self, at: Literal["best", "end"]) -> Curve:
        """The curve as far as it counts: at the end only the last loss counts as reached, not a smaller one
        before it that was lost again."""
        if at == "best":
            return self
        last = self.losses[-1]
        return replace(self, losses=tuple(max(loss, last) for loss in self.losses))

    @property
    def position(self) -> float:
        """The part of the training that is over, 0 to 1."""
        return min(1.0, self.tokens[-1] / self.total_tokens) if self.tokens else 0.0

    @property
    def schedule_ahead(self) -> float:
        """The part of the learning rate's fall that is still to come."""
        return self.fall_ahead[-1] if self.fall_ahead else 0.0

    @property
    def fall_per_doubling(self) -> float:
        """The fall of the best loss over the last doubling of tokens, never negative. Needs two
        evaluations."""
        half = self.tokens[-1] / 2
        before = max((i for i, tokens in enumerate(self.tokens[:-1]) if tokens <= half), default=0)
        doublings = math.log2(self.tokens[-1] / self.tokens[before])
        earlier = min(self.losses[: before + 1])
        if not math.isfinite(earlier):
            return 0.0
        return max(earlier - self.best, 0.0) / doublings

    def reach(self, resolution: float) -> float:
        """The fall that is still to come where c is one."""
        doublings = max(0.0, math.log2(self.total_tokens / self.tokens[-1]))
        return self.fall_per_doubling * doublings + resolution


def resolution_of(bests: Iterable[float]) -> float:
    """The difference that matters in a sweep: a fiftieth of the spread of the better half of its losses."""
    losses = np.fromiter(bests, np.float64)
    finite = losses[np.isfinite(losses)]
    if len(finite) < 3:
        return 1e-3
    middle = float(np.partition(finite, len(finite) // 2)[len(finite) // 2])
    return 0.02 * max(middle - float(finite.min()), 1e-4)


SeenInPast = Sequence[Sequence[Sequence[float]]]
"""log2 c by sweep and part of the training."""


def seen_in_past(past: Iterable[Sequence[Curve]]) -> SeenInPast:
    """What past sweeps tell ``CurveModel``."""
    return [_observed(_good(curves), resolution_of(curve.best for curve in curves)) for curves in past]


@dataclass(frozen=True, kw_only=True)
class CurveModel:
    """How log2 c is distributed, as past sweeps and finished control trials tell it."""

    past: SeenInPast = ()
    """See ``seen_in_past``. Curves of one sweep are alike, so a sweep counts as one vote."""
    own: tuple[Curve, ...] = ()
    """Finished control trials of this sweep, together one vote."""
    own_resolution: float = 1e-3

    def chance_below(self, curve: Curve, loss: float, resolution: float) -> float:
        """The chance that the curve comes below ``loss`` before its end. Needs two evaluations."""
        mean, spread = self._at(curve)
        need = curve.best - loss
        if loss == math.inf or need <= 0:
            return 1.0
        return _normal_cdf((mean - math.log2(need / curve.reach(resolution))) / spread)

    def _at(self, curve: Curve) -> tuple[float, float]:
        mean, spread = self.table[part_of(curve.position)]
        return mean + _SCHEDULE_DOUBLINGS * curve.schedule_ahead, spread

    def means(self, parts: NDArray[np.int64], ahead: Array) -> Array:
        """Of log2 c, for curves (n,) at these parts of their training, with so much of the schedule ahead."""
        found: Array = np.array([mean for mean, _ in self.table])[parts] + _SCHEDULE_DOUBLINGS * ahead
        return found

    def expected_falls(self, parts: NDArray[np.int64], ahead: Array, reach: Array, *, nearly: bool) -> Array:
        """(n,): how far curves are expected to come below what they have reached; ``nearly``: to some bits,
        and sooner."""
        exponents = np.minimum(self.means(parts, ahead), 1.0)
        # The last bit of numpy's power depends on the machine's vector unit.
        powers = np.exp2(exponents) if nearly else np.array([math.exp2(one) for one in exponents.tolist()])
        falls: Array = reach * powers
        return falls

    @cached_property
    def table(self) -> tuple[tuple[float, float], ...]:
        """Mean and spread of log2 c for each part of the training."""
        sweeps = list(self.past)
        if self.own:
            sweeps.append(_observed(self.own, self.own_resolution))
        return tuple(_shrunk(part, [sweep[part] for sweep in sweeps]) for part in range(len(_EDGES)))


def _good(curves: Sequence[Curve]) -> list[Curve]:
    bar = float(np.quantile([curve.best for curve in curves], _GOOD)) if curves else 0.0
    return [one for one in curves if one.best <= bar and all(map(math.isfinite, one.losses))]


def _observed(curves: Iterable[Curve], resolution: float) -> list[list[float]]:
    """log2 c at the beginning of each part of the training, one figure for each curve."""
    found: list[list[float]] = [[] for _ in _EDGES]
    for curve in curves:
        for part, edge in enumerate(_EDGES):
            seen = next(
                (i for i, t in enumerate(curve.tokens, 1) if t >= max(edge, 0.04) * curve.total_tokens), 0
            )
            seen = max(2, seen)
            if seen >= len(curve.losses) or part_of(curve.tokens[seen - 1] / curve.total_tokens) != part:
                continue
            then = curve.until(seen)
            drop = max(then.best - curve.best, 0.0)
            ratio = (drop + 0.05 * resolution) / then.reach(resolution)
            found[part].append(math.log2(ratio) - _SCHEDULE_DOUBLINGS * then.schedule_ahead)
    return found


def _shrunk(part: int, sweeps: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Mean and spread between the built-in ones and what the sweeps show, each of which has one vote."""
    votes = [one for one in sweeps if one]
    built_in, wide = _MEANS[part], _SPREADS[part]
    if not votes:
        return built_in, wide
    weight = len(votes) / (len(votes) + _PSEUDO_SWEEPS)
    seen = [value for one in votes for value in one]
    each = [1.0 / len(one) / len(votes) for one in votes for _ in one]
    mean = float(np.dot(each, seen))
    variance = float(np.dot(each, (np.asarray(seen) - mean) ** 2)) + (mean - built_in) ** 2 * (1 - weight)
    spread = math.sqrt(weight * variance + (1 - weight) * wide**2)
    if len(votes) < _FEW_SWEEPS:
        spread = max(spread, wide)
    return weight * mean + (1 - weight) * built_in, max(spread, 0.3)


def part_of(position: float) -> int:
    return max(part for part, edge in enumerate(_EDGES) if position >= edge)


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))
