"""By how much the chosen trial is better than another one, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sweeper.recommend.ranking import best_record, default_record, improvement
from sweeper.search import Interval, TrialRecord, TrialState, confirmation_of, paired_difference
from sweeper.search.front import ranked

if TYPE_CHECKING:
    from sweeper.search.evidence import Surface
    from sweeper.space import Space

__all__ = ["Gain", "gain_over", "gain_over_default", "gain_over_median"]


By = Literal["fresh seeds", "surrogate", "noise", ""]
_NORMAL = 1.96


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much better the chosen trial is than another, in units of the objective; positive is better also
    under ``max``."""

    over: int
    """The other trial."""
    measured: float
    """The difference of their own runs."""
    percent: float | None
    """Of the other's objective."""
    interval: Interval | None
    """Of the true difference, 95 %; None where nothing tells."""
    by: By
    """What the interval is of: runs of both under the same fresh seeds; the spread of the search's Gaussian
    process, each configuration having been trained once; or, where that process cuts the other one off for
    being so bad, the measured difference of two runs, each of which is as far from what its
    configuration gives as trials are from what the others say of them."""


def gain_over_default(space: Space, trials: Sequence[TrialRecord], surface: Surface | None) -> Gain | None:
    """None where either was not trained to its end, or the default is chosen."""
    default = default_record(trials)
    return None if default is None else gain_over(space, trials, default, surface)


def gain_over_median(space: Space, trials: Sequence[TrialRecord], surface: Surface | None) -> Gain | None:
    """Over the complete trial in the middle, the worse one of two; None where fewer than three are."""
    complete = ranked(trials, space.settings.objective)
    return None if len(complete) < 3 else gain_over(space, trials, complete[len(complete) // 2], surface)


def gain_over(
    space: Space, trials: Sequence[TrialRecord], other: TrialRecord, surface: Surface | None
) -> Gain | None:
    best = best_record(space, trials)
    if best is None or other.number == best.number or other.state is not TrialState.COMPLETE:
        return None
    if best.final_value is None or other.final_value is None:
        return None
    sign = 1.0 if space.settings.objective.mode == "min" else -1.0
    measured = sign * (other.final_value - best.final_value)
    interval, by = _interval(space, trials, best.number, other.number, surface)
    if interval is None and surface is not None and surface.tells:
        half = _NORMAL * math.sqrt(2.0) * surface.error
        interval, by = Interval(mean=measured, low=measured - half, high=measured + half), "noise"
    part = improvement(space, best.final_value, other.final_value)
    return Gain(
        over=other.number,
        measured=measured,
        percent=None if part is None else 100 * part,
        interval=interval,
        by=by,
    )


def _interval(
    space: Space, trials: Sequence[TrialRecord], best: int, other: int, surface: Surface | None
) -> tuple[Interval | None, By]:
    found = confirmation_of(space, trials)
    sign = 1.0 if space.settings.objective.mode == "min" else -1.0
    if found is not None and found.chosen == best:
        pair = [found.candidate(number) for number in (other, best)]
        values = [[sign * value for value in one.values] for one in pair if one is not None]
        seeds = min(map(len, values), default=0)
        if len(values) == 2 and seeds > 1:
            return paired_difference(values[0][:seeds], values[1][:seeds]), "fresh seeds"
    interval = None if surface is None else surface.gain(best, other)
    return interval, "" if interval is None else "surrogate"
