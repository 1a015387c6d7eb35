"""How the trials of a sweep stand: who may still beat the best, who is paused, and who goes on again.

A trial whose chance is below the risk is *paused*, not ended: its checkpoint stays, and its chance is
looked at again whenever the sweep has learned something. Pure: the same trials give the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import numpy as np

from sweeper.search.auto.curves import CurveModel, SeenInPast, resolution_of
from sweeper.search.auto.rows import Phase, Rows, SeenTrial

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["RISK", "Standing", "is_control"]

RISK = 0.25
"""A trial goes on while its chance to beat the best is above this; looked at after each of its
evaluations."""
_SAME_COST = 0.05
"""A difference of log costs that counts as none: seconds are not measured better."""
_CONTROLS, _CONTROLS_HALVED_AFTER = 0.1, 8
"""The part of the trials that are never paused, and after how many trials it has fallen by half."""
_TELLING, _CLOSE = (-39.0, 5.0), 1e-6
"""Chances are told apart by deviations between these, and are worked out exactly where these are so close."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All trials of a sweep at one moment."""

    trials: Sequence[SeenTrial] | Rows
    past: SeenInPast = ()
    """What finished curves of past sweeps show: see ``seen_in_past``."""
    at: Literal["best", "end"] = "best"
    """The evaluation that a trial is judged by: its best, or its last."""
    risk: float = RISK
    weighs_costs: bool = False
    """Whether there is a second objective: a trial has to beat only what costs no more than it will."""
    seen_after: Callable[[SeenTrial], int] = attrgetter("best_seen_after")
    """How many trials had been started when a trial's best loss was measured."""

    @cached_property
    def rows(self) -> Rows:
        return self.trials if isinstance(self.trials, Rows) else Rows.of(self.trials, self.at)

    def trial(self, number: int) -> SeenTrial | None:
        """None where it is not seen."""
        place = self.rows.index.get(number)
        return None if place is None else self.rows.trials[place]

    @cached_property
    def resolution(self) -> float:
        """The difference of losses that matters."""
        return resolution_of(self.rows.best[self._has_losses])

    @cached_property
    def model(self) -> CurveModel:
        controls = self._in(np.flatnonzero(self.rows.is_control & (self.rows.phases == Phase.ENDED)))
        curves = [one.curve for one in controls if all(map(math.isfinite, one.curve.losses))]
        return CurveModel(past=self.past, own=tuple(curves), own_resolution=self.resolution)

    def chance(self, trial: SeenTrial) -> float:
        """The chance of an unfinished trial to beat the best by what matters; 1 while it is too early to
        tell. With two objectives, to beat the best of those that cost no more, and so to enter the front; 1
        where its cost is not known."""
        if trial.phase.is_over:
            return 0.0
        if not trial.is_judged:
            return 1.0
        (best,) = self._to_beat(np.array([self.rows.index[trial.number]])).tolist()
        return self.model.chance_below(
            trial.curve.as_judged(self.at), best - self.resolution, self.resolution
        )

    @cached_property
    def expected(self) -> Array:
        """(n,), by rows: the loss that a trial has come to, or is expected to come to; infinite where it
        diverged, not a number while nothing can be said."""
        return self._expected(np.arange(len(self.rows.phases)), nearly=False)

    def _expected(self, places: NDArray[np.intp], *, nearly: bool) -> Array:
        rows, phases, evaluations = self.rows, self.rows.phases[places], self.rows.evaluations[places]
        ends = np.full(len(places), np.nan)
        ended = (phases == Phase.ENDED) | ((phases == Phase.STOPPED) & (evaluations < 2))
        at_end = (phases == Phase.ENDED) & (self.at == "end")
        ends[ended] = np.where(at_end, rows.last[places], rows.best[places])[ended]
        is_foreseen = (phases >= 0) & (phases < Phase.FAILED) & ~ended & (evaluations >= 2)
        foreseen = places[is_foreseen]
        reach = rows.to_fall[foreseen] + self.resolution
        falls = self.model.expected_falls(rows.parts[foreseen], rows.ahead[foreseen], reach, nearly=nearly)
        ends[is_foreseen] = rows.reached[foreseen] - falls
        ends[phases == Phase.FAILED] = np.inf
        return ends

    def pauses(self, trial: SeenTrial) -> float | None:
        """The chance of a running trial that is to pause now; None where it goes on."""
        chance = self.chance(trial)
        return chance if chance <= self.bar and not trial.control else None

    def to_thaw(self) -> SeenTrial | None:
        """The paused trial that goes on next: the one with the best chance, where that is above the risk."""
        best = self.most_promising()
        return best if best is not None and self.chance(best) > self.bar else None

    def goes_on(self, *, space_is_exhausted: bool | None) -> SeenTrial | None:
        """The paused trial that goes on; see ``Stopper.goes_on`` for when which is given."""
        ready = self.to_thaw()
        if ready is None and space_is_exhausted is not None:
            ready = self.unfinished_leader()
        if ready is None and space_is_exhausted:
            ready = self.most_promising()
        return ready

    def most_promising(self) -> SeenTrial | None:
        """The paused trial with the best chance, the earliest of equal ones."""
        paused = np.flatnonzero(self.rows.phases == Phase.PAUSED)
        if not len(paused):
            return None
        deviations = np.clip(self._deviations(paused), *_TELLING)
        close = self._in(paused[deviations >= deviations.max() - _CLOSE])
        return max(close, key=lambda trial: (self.chance(trial), -trial.number))

    def unfinished_leader(self) -> SeenTrial | None:
        """The leader, where it is paused: a sweep's best trial is trained to its end."""
        leader = self.leader()
        return leader if leader is not None and leader.phase is Phase.PAUSED else None

    def leader(self) -> SeenTrial | None:
        """The trial with the smallest loss seen, or to be expected under ``at: end``."""
        if self.at == "end":
            losses = np.where(np.isnan(self.expected), np.inf, self.expected)
            judged = ~np.isnan(self.expected)
        else:
            losses = self.rows.best
            judged = self._is_seen & (self.rows.phases != Phase.FAILED) & np.isfinite(losses)
        if not judged.any():
            return None
        first = self._in(np.flatnonzero(judged & (losses == losses[judged].min())))
        return min(first, key=lambda trial: trial.number)

    @cached_property
    def bar(self) -> float:
        """The risk, and less of it after a long time without improvement: late learners get their turn
        then."""
        leaders = self._in(np.flatnonzero(self._has_losses & (self.rows.best == self._best_seen)))
        if not leaders or not math.isfinite(self._best_seen):
            return self.risk
        before = max(4, min(map(self.seen_after, leaders)))
        return self.risk * math.exp2(-max(0.0, (self.rows.seen - before) / before - 1.0))

    @cached_property
    def _is_seen(self) -> NDArray[np.bool_]:
        seen: NDArray[np.bool_] = self.rows.phases >= 0
        return seen

    @cached_property
    def _has_losses(self) -> NDArray[np.bool_]:
        return self._is_seen & (self.rows.evaluations > 0)

    @cached_property
    def _best_seen(self) -> float:
        return float(self._losses_seen.min(initial=math.inf))

    @cached_property
    def _losses_seen(self) -> Array:
        """(n,): the best losses of all that did not fail; infinite of those that did."""
        counts = self._is_seen & (self.rows.phases != Phase.FAILED)
        return np.where(counts, self.rows.best, np.inf)

    @cached_property
    def _ends(self) -> Array:
        """(n,): what trials come to, infinite where nothing can be said."""
        return np.where(np.isnan(self.expected), np.inf, self.expected)

    @cached_property
    def _best_ends(self) -> list[tuple[float, int]]:
        """The two best that trials come to, with their rows."""
        nearly = self._expected(np.arange(len(self.rows.phases)), nearly=True)
        nearly[np.isnan(nearly)] = np.inf
        second = float(np.partition(nearly, 1)[1]) if len(nearly) > 1 else math.inf
        close = np.flatnonzero(nearly <= second + _CLOSE * max(1.0, abs(second)))
        if not math.isfinite(second):
            close = np.flatnonzero(nearly < np.inf)
        exact = self._expected(close, nearly=False).tolist()
        return sorted(zip(exact, close.tolist(), strict=True))[:2]

    def _to_beat(self, places: NDArray[np.intp]) -> Array:
        """(m,): the loss that the trial in each of these rows has to beat. Under ``at: best`` the best seen,
        else the best that another has come to or is expected to; infinite without any."""
        if self.weighs_costs:
            return np.array([self._to_beat_at_its_cost(place) for place in places.tolist()])
        if self.at == "best":
            return np.full(len(places), self._best_seen)
        (best, first), (second, _) = [*self._best_ends, (math.inf, -1), (math.inf, -1)][:2]
        return np.where(places == first, second, best)

    def _to_beat_at_its_cost(self, place: int) -> float:
        """With two objectives, only what costs no more is to be beaten."""
        costs = self.rows.cost
        rivals = self._is_seen & (costs <= costs[place] + _SAME_COST)
        rivals[place] = False
        if self.at == "end":
            return float(self._ends[rivals].min(initial=math.inf))
        rivals &= self.rows.phases != Phase.FAILED
        if not rivals.any():
            return math.inf
        return float(min(self.rows.best[rivals].min(), self.rows.best[place]))

    def _deviations(self, places: NDArray[np.intp]) -> Array:
        """(m,): by how many deviations of log2 c the trials in these rows are expected to beat the best,
        nearly: infinite where their chance is 1."""
        rows, judged = self.rows, self.rows.is_judged[places]
        found = np.full(len(places), np.inf)
        places = places[judged]
        need = rows.reached[places] - (self._to_beat(places) - self.resolution)
        spreads = np.array([spread for _, spread in self.model.table])[rows.parts[places]]
        means = self.model.means(rows.parts[places], rows.ahead[places])
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.log2(need / (rows.to_fall[places] + self.resolution))
            found[judged] = np.where(need > 0, (means - needed) / spreads, np.inf)
        return found

    def _in(self, places: NDArray[np.intp]) -> list[SeenTrial]:
        """The trials in these rows, which are not empty."""
        return [trial for place in places.tolist() if (trial := self.rows.trials[place]) is not None]


@cache
def is_control(seed: int, number: int) -> bool:
    """A coin, thrown before the trial starts: a tenth of the first trials, fewer of later ones.

    Late controls cost as much as early ones, and teach less.
    """
    from numpy.random import default_rng

    odds = _CONTROLS * _CONTROLS_HALVED_AFTER / (_CONTROLS_HALVED_AFTER + number)
    return bool(default_rng((seed, number, 1)).random() < odds)
