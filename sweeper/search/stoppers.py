"""Whether a running trial is stopped early: pure functions of the ledger.

All comparisons are made on the axis of training tokens seen. Trials differ in epochs, batch size and
packing, so their step numbers mean nothing to each other and are never read here.

A stopper is asked after each evaluation of a trial. It never stops a trial that has reached its total:
there is nothing left to save. A value that is not a number counts as the worst there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Protocol

from sweeper.search.losses import Curves
from sweeper.search.records import TrialRecord, TrialState

if TYPE_CHECKING:
    from sweeper.search.auto import Past
    from sweeper.search.auto.view import View
    from sweeper.space import Space

__all__ = [
    "AshaStopper",
    "HopelessStopper",
    "HyperbandStopper",
    "MedianStopper",
    "NoStopper",
    "Pause",
    "PausingStopper",
    "StopDecision",
    "Stopper",
    "make_stopper",
]


@dataclass(frozen=True, kw_only=True)
class Pause:
    """The trial gives up its place and keeps its state: it may go on later."""

    chance: float
    """That it would beat the best."""
    reason: str


StopDecision = str | Pause | None
"""The reason to stop, as a sentence with its figures; a pause; or None: go on."""


class Stopper(Protocol):
    """Decides from the records alone, so that a replay of the ledger decides the same."""

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """Whether trial ``number`` is stopped now.

        ``trials`` are all records of the sweep, the trial's own among them, read after its newest
        evaluation was reported. ``untrained`` is the objective of the model before any training.
        """
        ...

    def goes_on(self, trials: Sequence[TrialRecord], *, space_is_exhausted: bool | None) -> int | None:
        """The paused trial that goes on now.

        ``space_is_exhausted`` is None while new trials may be begun; then only a trial whose chance has
        risen is given. Else nothing runs and no new trial will be begun, because there were enough (False),
        or because each configuration was asked (True).
        """
        ...


def make_stopper(space: Space, *, pauses: bool = True, past: Past | None = None) -> Stopper:
    """The stopper that ``search.stopper`` names, for the sweep's objective.

    Without states of trials (``checkpoints.keep_last: 0``), or ``pauses``, ``auto`` stops what is hopeless
    instead of pausing what is not promising.
    """
    objective = space.settings.objective
    curves = Curves.of(objective)
    match space.settings.search.stopper:
        case "none":
            return NoStopper()
        case "auto":
            keeps_states = space.closed.get("checkpoints.keep_last", 1) != 0
            keeps_states = keeps_states and space.settings.engine is None
            if pauses and keeps_states:
                return PausingStopper(space=space, past=past)
            return HopelessStopper(curves=curves)
        case "asha":
            return AshaStopper(curves=curves, evaluations=objective.evaluations)
        case "hyperband":
            seed = space.settings.search.seed
            return HyperbandStopper(curves=curves, evaluations=objective.evaluations, seed=seed)
        case "median":
            return MedianStopper(curves=curves)


class _Ending:
    """A stopper that ends trials for good."""

    def goes_on(self, trials: Sequence[TrialRecord], *, space_is_exhausted: bool | None) -> int | None:
        """Nothing is paused."""
        return None


@dataclass(frozen=True, kw_only=True)
class PausingStopper:
    """Pauses a trial whose chance to beat the best is below a risk, and thaws it when that has risen.

    The default. See ``sweeper.search.auto.standing``. When nothing else is left, the leader is trained to its
    end, and, where the space has no other configuration, the other paused trials after it. A trial that has
    made the model worse than it was ends for good, see ``HopelessStopper``. It is for one sweep, as it
    remembers what the finished trials look like.
    """

    space: Space
    past: Past | None = None
    """Past sweeps, whose curves show how curves end."""

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """A trial at its end is never stopped. The default, which all are compared with, and one that was
        thawed as the last are never paused."""
        record, objective = _find(number, trials), self.space.settings.objective
        hopeless = HopelessStopper(curves=Curves.of(objective))
        if (reason := hopeless.decide(number, trials, untrained)) is not None:
            return reason
        total, is_spared = _total_tokens(record), record.to_end or record.is_default
        if is_spared or total is None or not record.evaluations or record.evaluations[-1].tokens >= total:
            return None
        standing = self._view.standing(trials)
        seen = standing.trial(number)
        chance = None if seen is None else standing.pauses(seen)
        if chance is None:
            return None
        value = record.evaluations[-1].metrics.get(objective.metric, math.nan)
        beaten = "the best" if objective.also is None else "the best of those that cost no more"
        seen_of = f"{record.evaluations[-1].tokens:,} of {total:,} tokens"
        return Pause(
            chance=chance,
            reason=f"{objective.metric} is {_figure(value)} after {seen_of}: its chance to beat {beaten} is "
            f"{chance:.1%}, below {standing.bar:.1%}",
        )

    def goes_on(self, trials: Sequence[TrialRecord], *, space_is_exhausted: bool | None) -> int | None:
        """The one with the best chance; at the end the leader, if it is paused."""
        if all(record.state is not TrialState.PAUSED for record in trials):
            return None
        ready = self._view.standing(trials).goes_on(space_is_exhausted=space_is_exhausted)
        return None if ready is None else ready.number

    @cached_property
    def _view(self) -> View:
        from sweeper.search.auto.coordinates import Coordinates
        from sweeper.search.auto.view import View

        return View(self.space, Coordinates(self.space), self.past)


@dataclass(frozen=True, kw_only=True)
class NoStopper(_Ending):
    """Lets every trial train to its end."""

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """Never a reason."""
        return None


@dataclass(frozen=True, kw_only=True)
class HopelessStopper(_Ending):
    """Stops a trial that has made the model worse than it was, and stays there.

    Ranks at an early point mislead in fine-tuning: a low learning rate learns late and often ends best,
    so trials are not compared with each other at all. The one thing that is compared is each trial with
    the untrained model: still above it at the last ``patience`` evaluations, with at least
    ``min_share`` of the trial's own tokens gone, is hopeless. Half, and not a third: a high learning
    rate can throw the loss up during warm-up and win it back while the schedule falls.
    """

    curves: Curves
    min_share: float = 0.5
    """Share of the trial's total tokens before which it is never stopped."""
    patience: int = 2
    """Evaluations in a row that must all be worse than the untrained model."""

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """Needs ``untrained`` and the trial's ``total_tokens``; without them nothing is stopped."""
        record = _find(number, trials)
        points = self.curves.unbound.points(record)
        total = _total_tokens(record)
        if untrained is None or not math.isfinite(untrained) or total is None or len(points) < self.patience:
            return None
        tokens, loss = points[-1]
        if not self.min_share * total <= tokens < total:
            return None
        bar = self.curves.loss(untrained)
        above = _count_from_end(points, bar)
        if above < self.patience:
            return None
        return (
            f"{self.curves.metric} is {_figure(self.curves.value(loss))} after {tokens:,} of {total:,} "
            f"tokens, and was worse than the untrained model's {_figure(untrained)} at the last {above} "
            "evaluations"
        )


@dataclass(frozen=True, kw_only=True)
class AshaStopper(_Ending):
    """Asynchronous successive halving, stopping variant (Li et al. 2020, arXiv:1810.05934).

    Rungs stand at ``first * reduction**k`` tokens, k >= ``skipped``, where ``first`` is the earliest
    evaluation that any trial plans. A trial is judged once at each rung, at the evaluation with which it
    passes it: it goes on if it is among the best ``1 / reduction`` of all that have passed the rung so far
    (at least one). While fewer than ``reduction`` have passed it, all go on. The loss at a rung is
    interpolated.
    """

    curves: Curves
    evaluations: int
    """Planned evaluations of one trial, evenly spaced over its tokens."""
    reduction: int = 3
    skipped: int = 0
    """Rungs that are left out at the beginning."""

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """Judges the highest rung that the trial's newest evaluation has passed."""
        record = _find(number, trials)
        rung = self._passed_rung(record, trials)
        if rung is None:
            return None
        own = self.curves.loss_at(record, rung, untrained)
        if own is None:
            return None
        others = _losses_at(self.curves, _rivals(number, trials), rung, untrained)
        passed = len(others) + 1
        if passed < self.reduction:
            return None
        kept = max(1, passed // self.reduction)
        better = sum(other < own for other in others)
        if better < kept and own < math.inf:
            return None
        return (
            f"{self.curves.metric} is {_figure(self.curves.value(own))} at the rung of {rung:,.0f} tokens, "
            f"where {better} of {passed - 1} other trials are better and {kept} of {passed} go on"
        )

    def _passed_rung(self, record: TrialRecord, trials: Sequence[TrialRecord]) -> float | None:
        """The highest rung in (previous evaluation, newest evaluation], below the trial's own end."""
        points = self.curves.points(record)
        planned = [p for t in trials if (p := self._first_planned_tokens(t)) is not None and p > 0]
        if not points or not planned:
            return None
        newest = points[-1][0]
        previous = points[-2][0] if len(points) > 1 else 0
        total = _total_tokens(record)
        if total is not None and newest >= total:
            return None
        rung = min(planned) * self.reduction**self.skipped
        if rung > newest:
            return None
        while rung * self.reduction <= newest:
            rung *= self.reduction
        return rung if rung > previous else None

    def _first_planned_tokens(self, record: TrialRecord) -> float | None:
        """Where the trial's first evaluation is planned, or was made where no total is known."""
        total = _total_tokens(record)
        if total is not None:
            return total / self.evaluations
        return min((e.tokens for e in record.evaluations), default=None)


@dataclass(frozen=True, kw_only=True)
class HyperbandStopper(_Ending):
    """Several brackets of successive halving (Li et al. 2018, arXiv:1603.06560; asynchronous as in Optuna's
    ``HyperbandPruner``).

    Where halving alone trusts the first evaluation, brackets differ in how early they begin: bracket s leaves
    out the first s rungs. A trial is compared with those of its own bracket only. Which one that is, is drawn
    from the seed and the trial's number, with odds in proportion to how many trials a bracket of equal
    tokens begins with, as in the paper.
    """

    curves: Curves
    evaluations: int
    """Planned evaluations of one trial, evenly spaced over its tokens."""
    seed: int
    reduction: int = 3

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """Judges the trial as its bracket does."""
        bracket = self.bracket(number)
        halving = AshaStopper(
            curves=self.curves, evaluations=self.evaluations, reduction=self.reduction, skipped=bracket
        )
        alike = [record for record in trials if self.bracket(record.number) == bracket]
        reason = halving.decide(number, alike, untrained)
        return f"{reason} (bracket {bracket + 1} of {len(self.sizes)})" if reason else None

    def bracket(self, number: int) -> int:
        """The bracket of a trial: 0 judges at the first evaluation already."""
        from numpy.random import default_rng

        draw = int(default_rng((self.seed, number, 2)).integers(sum(self.sizes)))
        return next(one for one in range(len(self.sizes)) if draw < sum(self.sizes[: one + 1]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """With how many trials each bracket begins: ceil(n * reduction**s / (s + 1)) for n brackets, where s
        is how often it halves (Algorithm 1)."""
        halvings = 0
        while self.reduction ** (halvings + 1) <= self.evaluations:
            halvings += 1
        count = halvings + 1
        return tuple(math.ceil(count * self.reduction**s / (s + 1)) for s in range(halvings, -1, -1))


@dataclass(frozen=True, kw_only=True)
class MedianStopper(_Ending):
    """The median rule (Golovin et al. 2017, Vizier, section 3.2).

    A trial is stopped when its best value so far is worse than the median of the other trials' values
    at the same number of tokens. Nothing is stopped before ``warmup`` trials are complete, and nowhere
    where fewer than ``warmup`` other curves reach.
    """

    curves: Curves
    warmup: int = 3

    def decide(self, number: int, trials: Sequence[TrialRecord], untrained: float | None) -> StopDecision:
        """Judges the trial at its newest evaluation."""
        record = _find(number, trials)
        points = self.curves.points(record)
        complete = sum(trial.state is TrialState.COMPLETE for trial in trials)
        if not points or complete < self.warmup:
            return None
        tokens = points[-1][0]
        total = _total_tokens(record)
        if total is not None and tokens >= total:
            return None
        others = _losses_at(self.curves, _rivals(number, trials), tokens, untrained)
        if len(others) < self.warmup:
            return None
        best, middle = self.curves.best_loss(record), median(others)
        if not best > middle:
            return None
        return (
            f"the best {self.curves.metric} so far is {_figure(self.curves.value(best))} after {tokens:,} "
            f"tokens, worse than {_figure(self.curves.value(middle))}, the median of {len(others)} others"
        )


def _find(number: int, trials: Sequence[TrialRecord]) -> TrialRecord:
    """The record of that number.

    Raises:
        KeyError: it is not among them.
    """
    if number < len(trials) and trials[number].number == number:
        return trials[number]  # where no trial trains another's values again
    for record in trials:
        if record.number == number:
            return record
    raise KeyError(number)


def _rivals(number: int, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials to compare with. A failed one is none: it diverged, or its values are asked again."""
    return [t for t in trials if t.number != number and t.state is not TrialState.FAIL]


def _losses_at(
    curves: Curves, trials: Sequence[TrialRecord], tokens: float, untrained: float | None
) -> list[float]:
    """The losses after ``tokens`` of those trials whose curves reach that far."""
    losses = (curves.loss_at(trial, tokens, untrained) for trial in trials)
    return [loss for loss in losses if loss is not None]


def _total_tokens(record: TrialRecord) -> int | None:
    """The training tokens that the trial will have seen at its end, as the driver noted it."""
    total = record.attributes.get("total_tokens")
    return int(total) if total is not None else None


def _count_from_end(points: Sequence[tuple[int, float]], bar: float) -> int:
    """How many of the newest evaluations in a row are worse than the bar."""
    count = 0
    for _, loss in reversed(points):
        if not loss > bar:
            break
        count += 1
    return count


def _figure(value: float) -> str:
    """Four significant digits; words where it is no number."""
    return f"{value:.4g}" if math.isfinite(value) else "not a number"
