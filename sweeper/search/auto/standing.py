"""How the trials of a sweep stand: who may still beat the best, who is paused, and who goes on again.

A trial whose chance is below the risk is *paused*, not ended: its checkpoint stays, and its chance is
looked at again whenever the sweep has learned something. Pure: the same trials give the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal

from sweeper.search.auto.curves import Curve, CurveModel, resolution_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RISK", "Phase", "SeenTrial", "Standing", "is_control"]

RISK = 0.25
"""A trial goes on while its chance to beat the best is above this; looked at after each of its
evaluations."""
_SAME_COST = 0.05
"""A difference of log costs that counts as none: seconds are not measured better."""
_JUDGED_FROM = ((3, 0.05), (2, 0.2))
"""A trial is judged after so many evaluations, when so much of its training is over: one of the two. A late
learner looks hopeless in its first tenth, and two evaluations are one difference."""
_CONTROLS, _CONTROLS_HALVED_AFTER = 0.1, 8
"""The part of the trials that are never paused, and after how many trials it has fallen by half."""


class Phase(Enum):
    """Where a trial is."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    STOPPED = "stopped"
    """Ended before its time, by another stopper or a budget."""
    FAILED = "failed"
    """It diverged: as bad as can be."""

    @property
    def is_over(self) -> bool:
        return self in (Phase.ENDED, Phase.STOPPED, Phase.FAILED)


@dataclass(frozen=True, kw_only=True)
class SeenTrial:
    """One trial as the search sees it. A trial that failed for no fault of its values is not seen at all."""

    number: int
    point: NDArray[np.float64]
    """(columns,) in the unit box."""
    curve: Curve
    phase: Phase
    control: bool = False
    """Never paused, so that its curve shows how curves end."""
    best_seen_after: int = 0
    """How many trials had been started when its best loss was measured."""
    cost: float | None = None
    """What it has come to or will in the second objective, smaller is better: the logarithm of a cost, a
    metric as it is; None where that is not known, or there is no second objective."""
    excesses: tuple[float, ...] = ()
    """By how much it exceeds each bound where it is judged, above 0 where it does; empty where that is not
    known, or there are no constraints. The curve has infinite losses where it breaks one."""
    measured: float | None = None
    """The loss that it is judged by, also where it breaks a constraint."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All trials of a sweep at one moment."""

    trials: Sequence[SeenTrial]
    past_curves: tuple[tuple[Curve, ...], ...] = ()
    """Finished curves of past sweeps."""
    at: Literal["best", "end"] = "best"
    """The evaluation that a trial is judged by: its best, or its last."""
    risk: float = RISK
    weighs_costs: bool = False
    """Whether there is a second objective: a trial has to beat only what costs no more than it will."""

    @cached_property
    def resolution(self) -> float:
        """The difference of losses that matters."""
        return resolution_of(trial.curve.best for trial in self.trials if trial.curve.losses)

    @cached_property
    def model(self) -> CurveModel:
        ended = (t.curve for t in self.trials if t.control and t.phase is Phase.ENDED)
        controls = [curve for curve in ended if all(map(math.isfinite, curve.losses))]
        return CurveModel(past=self.past_curves, own=tuple(controls), own_resolution=self.resolution)

    def is_judged(self, trial: SeenTrial) -> bool:
        """Whether enough of its curve was seen."""
        seen, position = len(trial.curve.losses), trial.curve.position
        return any(seen >= evaluations and position >= part for evaluations, part in _JUDGED_FROM)

    def chance(self, trial: SeenTrial) -> float:
        """The chance of an unfinished trial to beat the best by what matters; 1 while it is too early to
        tell. With two objectives, to beat the best of those that cost no more, and so to enter the front; 1
        where its cost is not known."""
        if trial.phase.is_over:
            return 0.0
        if not self.is_judged(trial):
            return 1.0
        best = self._best_seen_of_rivals(trial) if self.at == "best" else self._best_end_but(trial)
        return self.model.chance_below(self._base(trial), best - self.resolution, self.resolution)

    def expected_loss(self, trial: SeenTrial) -> float | None:
        """The loss that a trial has come to, or is expected to come to; None while nothing can be said."""
        if trial.phase is Phase.FAILED:
            return math.inf
        if trial.phase is Phase.ENDED:
            return trial.curve.best if self.at == "best" else trial.curve.losses[-1]
        if len(trial.curve.losses) < 2:
            return trial.curve.best if trial.phase is Phase.STOPPED else None
        return self.model.expected_end(self._base(trial), self.resolution)

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
        paused = [trial for trial in self.trials if trial.phase is Phase.PAUSED]
        return max(paused, key=lambda trial: (self.chance(trial), -trial.number), default=None)

    def unfinished_leader(self) -> SeenTrial | None:
        """The leader, where it is paused: a sweep's best trial is trained to its end."""
        leader = self.leader()
        return leader if leader is not None and leader.phase is Phase.PAUSED else None

    def leader(self) -> SeenTrial | None:
        """The trial with the smallest loss seen, or to be expected under ``at: end``."""
        judged = [(loss, t.number, t) for t in self.trials if (loss := self._loss_of_leader(t)) is not None]
        return min(judged, key=lambda one: one[:2])[2] if judged else None

    @cached_property
    def bar(self) -> float:
        """The risk, and less of it after a long time without improvement: late learners get their turn
        then."""
        started = len(self.trials)
        leaders = [t for t in self.trials if t.curve.losses and t.curve.best == self._best_seen]
        if not leaders or not math.isfinite(self._best_seen):
            return self.risk
        before = max(4, min(t.best_seen_after for t in leaders))
        return self.risk * math.exp2(-max(0.0, (started - before) / before - 1.0))

    @cached_property
    def _best_seen(self) -> float:
        return min((t.curve.best for t in self.trials if t.phase is not Phase.FAILED), default=math.inf)

    def _best_end_but(self, trial: SeenTrial) -> float:
        """What its rivals have come to, or are expected to."""
        return next((loss for one, loss in self._ends if self._is_rival(one, trial)), math.inf)

    def _best_seen_of_rivals(self, trial: SeenTrial) -> float:
        """The best loss of its rivals and itself; infinite where it has no rival but is to be cheaper."""
        if not self.weighs_costs:
            return self._best_seen
        rivals = [one for one in self.trials if self._is_rival(one, trial) and one.phase is not Phase.FAILED]
        return min(one.curve.best for one in (*rivals, trial)) if rivals else math.inf

    def _is_rival(self, one: SeenTrial, trial: SeenTrial) -> bool:
        """Whether a trial has to beat another one: with two objectives, only one that costs no more."""
        if one.number == trial.number:
            return False
        if not self.weighs_costs:
            return True
        return one.cost is not None and trial.cost is not None and one.cost <= trial.cost + _SAME_COST

    @cached_property
    def _ends(self) -> list[tuple[SeenTrial, float]]:
        """Trials by what they come to, so that each chance is told in a moment."""
        ends = [(one, loss) for one in self.trials if (loss := self.expected_loss(one)) is not None]
        return sorted(ends, key=lambda end: end[1])

    def _base(self, trial: SeenTrial) -> Curve:
        """The curve as far as it counts: under ``at: end`` what was won and lost again is lost."""
        return trial.curve if self.at == "best" else trial.curve.from_last()

    def _loss_of_leader(self, trial: SeenTrial) -> float | None:
        if self.at == "end":
            return self.expected_loss(trial)
        seen = trial.phase is not Phase.FAILED and math.isfinite(trial.curve.best)
        return trial.curve.best if seen else None


@cache
def is_control(seed: int, number: int) -> bool:
    """A coin, thrown before the trial starts: a tenth of the first trials, fewer of later ones.

    Late controls cost as much as early ones, and teach less.
    """
    from numpy.random import default_rng

    odds = _CONTROLS * _CONTROLS_HALVED_AFTER / (_CONTROLS_HALVED_AFTER + number)
    return bool(default_rng((seed, number, 1)).random() < odds)
