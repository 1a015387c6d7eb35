"""What one short run of rising learning rate says about the useful range (Smith 2015, arXiv:1506.01186).

The curve that is read is the loss on a few held-out rows, the same after every step, and its start is the
untrained model's loss on these rows. A training batch's own loss differs from the next one's by the rows
that happen to be in it, often by more than a step changes the model, and falls with repeats of few rows
whatever the rate; here neither can be mistaken for learning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DECADES", "STEPS", "Bracket", "LrRange", "is_lost", "read_range", "tried_range"]

STEPS = 100
"""Optimizer steps of a test: about 17 for each factor of ten."""
DECADES = 3
"""So many factors of ten below and above the rule of thumb are tried."""
HIGHEST_LR = 10.0
"""No training has a higher one."""

_FALL_FRACTION = 0.1
"""The fall has begun where this fraction of the whole fall is reached."""
_CLEAR_NOISE, _CLEAR_FRACTION = 4.0, 1e-3
"""A fall is one of more than so many standard deviations of the noise, and than this fraction of the loss."""
_LOST_FALL, _LOST_FRACTION, _LOST_STEPS = 0.5, 0.1, 5
"""A loss is lost that for so many steps stays above its lowest by this fraction of the whole fall, and by
that fraction of the untrained model's."""
_MEDIAN, _MEAN = 5, 3
"""Steps that are smoothed over, centred: a trailing average would move the whole curve to higher rates."""

Curve = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """Learning rates between which training is worth while."""

    low: float
    """From here on the loss falls clearly: by a tenth of the whole fall and by more than the noise."""
    steepest: float
    """Where it falls fastest for a factor of the rate."""
    high: float
    """Where it has stopped falling."""


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """One test, read."""

    lrs: tuple[float, ...]
    """The learning rate of each optimizer step, rising."""
    losses: tuple[float, ...]
    """The held-out loss after it, nats per completion token; NaN or infinite where the numbers were lost."""
    smoothed: tuple[float, ...]
    """``losses`` without their jumps, never higher than half above the untrained model's loss."""
    untrained: float
    """The held-out loss before the first step, nats per completion token."""
    noise: float
    """Standard deviation of the losses around their course, nats."""
    bracket: Bracket | None
    """None where the loss never fell clearly."""
    diverged_at: float | None
    """From this rate on the loss was lost, or had given back half of its fall; None where it never had."""
    finding: str
    """All this as a sentence without a full stop."""


def tried_range(practice: float) -> tuple[float, float]:
    """The lowest and the highest rate of a test around a rule of thumb."""
    return practice / 10**DECADES, min(practice * 10**DECADES, HIGHEST_LR)


def is_lost(losses: Sequence[float], untrained: float) -> bool:
    """Whether the last losses have no way back, so that higher rates need not be tried."""
    ceiling, last = _ceiling(losses, untrained), losses[-_LOST_STEPS:]
    return len(last) == _LOST_STEPS and not any(loss <= ceiling for loss in last)  # as NaN is not


def read_range(lrs: Sequence[float], losses: Sequence[float], *, untrained: float) -> LrRange:
    """Find where the loss begins to fall, falls fastest and stops falling.

    Args:
        lrs: rising and above 0, one for each step; at least one.
        losses: held-out loss after each step, nats per completion token; NaN where it is no number.
        untrained: the same before the first step; finite and above 0.
    """
    curve = _smoothed(np.asarray(losses, dtype=np.float64), untrained)
    sound = _sound_until(losses, untrained)
    diverged_at = lrs[sound] if sound < len(lrs) else None
    noise = _noise(np.asarray(losses[:sound], dtype=np.float64))
    bracket = _bracket(np.asarray(lrs, dtype=np.float64), curve[:sound], untrained, noise)
    return LrRange(
        lrs=tuple(lrs),
        losses=tuple(losses),
        smoothed=tuple(curve.tolist()),
        untrained=untrained,
        noise=noise,
        bracket=bracket,
        diverged_at=diverged_at,
        finding=_in_words(lrs, bracket, diverged_at),
    )


def _ceiling(losses: Sequence[float], untrained: float) -> float:
    """Above it a loss is lost, if it stays there."""
    lowest = min([untrained, *filter(math.isfinite, losses)])
    return lowest + max(_LOST_FALL * (untrained - lowest), _LOST_FRACTION * untrained)


def _sound_until(losses: Sequence[float], untrained: float) -> int:
    """After how many steps the losses are lost for good; a single jump near the end is not that."""
    ceiling = _ceiling(losses, untrained)
    sound = max((step + 1 for step, loss in enumerate(losses) if loss <= ceiling), default=0)
    rest = losses[sound:]
    lost = len(rest) >= _LOST_STEPS or not all(map(math.isfinite, rest))
    return sound if lost else len(losses)


def _smoothed(losses: Curve, untrained: float) -> Curve:
    """A running median, which a jump does not move and which keeps a cliff where it is, then a mean. Both are
    mirrored at the ends: repeated, the last value would outvote its neighbours in a median."""
    from scipy.ndimage import median_filter, uniform_filter1d

    ceiling = 1.5 * untrained
    bounded = np.minimum(np.nan_to_num(losses, nan=ceiling, posinf=ceiling), ceiling)
    smooth: Curve = uniform_filter1d(median_filter(bounded, _MEDIAN, mode="mirror"), _MEAN, mode="mirror")
    return smooth


def _noise(losses: Curve) -> float:
    """From second differences, which a smooth course has hardly any of; their median lets jumps alone."""
    finite = losses[np.isfinite(losses)]
    if len(finite) < 3:
        return 0.0
    spread = np.median(np.abs(np.diff(finite, 2))) / math.sqrt(6)
    return float(spread / 0.6745)  # the median deviation of a normal distribution


def _bracket(lrs: Curve, curve: Curve, untrained: float, noise: float) -> Bracket | None:
    """None where there is no clear fall below the untrained model's loss."""
    if len(curve) < _MEDIAN:
        return None
    high = int(np.argmin(curve))
    fall = untrained - float(curve[high])
    if fall <= max(_CLEAR_NOISE * noise, _CLEAR_FRACTION * untrained):
        return None
    begun = untrained - max(_FALL_FRACTION * fall, min(_CLEAR_NOISE * noise, fall / 2))
    before = np.flatnonzero(curve[: high + 1] > begun)
    low = min(int(before[-1]) + 1, high) if len(before) else 0
    low, high = (low, high) if low < high else (max(low - 1, 0), min(high + 1, len(curve) - 1))
    slopes = np.gradient(curve, np.log(lrs[: len(curve)]))
    steepest = low + int(np.argmin(slopes[low : high + 1]))
    return Bracket(low=float(lrs[low]), steepest=float(lrs[steepest]), high=float(lrs[high]))


def _in_words(lrs: Sequence[float], bracket: Bracket | None, diverged_at: float | None) -> str:
    if bracket is None:
        said = "the held-out loss never fell clearly below the untrained model's"
        if diverged_at is None:
            return f"{said}, up to lr {lrs[-1]:.1e}"
        return f"{said} before lr {diverged_at:.1e} lost it"
    start = f"falls from lr {bracket.low:.1e} on"
    if bracket.low <= lrs[0]:
        start = f"already falls at the lowest lr tried, {lrs[0]:.1e}"
    end = f"stops falling at lr {bracket.high:.1e}"
    if diverged_at is None and bracket.high >= lrs[-min(_MEDIAN // 2 + 1, len(lrs))]:
        end = f"still falls at the highest lr tried, {lrs[-1]:.1e}"
    said = f"the held-out loss {start}, fastest at {bracket.steepest:.1e}, and {end}"
    return said if diverged_at is None else f"{said}; from lr {diverged_at:.1e} on it is lost"
