"""The best trials once more under other seeds: which run comes next, and what the runs say.

The value by which a trial won the search is selected, the best of many, and so better than what its
configuration gives on average. Runs under fresh seeds are not selected; only they are compared here. All
candidates train under the same seeds, so that a seed that is good for all of them cancels out of their
differences. Pure: space and records decide, whoever reads them and however often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from sweeper.search.front import ranked
from sweeper.search.records import TrialRecord, TrialState
from sweeper.space import constraints_of, real_config, search_config, violation

if TYPE_CHECKING:
    from sweeper.space import Config, Objective, Space

__all__ = [
    "Candidate",
    "Confirmation",
    "Interval",
    "asked_config",
    "chosen",
    "confirmation_of",
    "contenders",
    "paired_difference",
]

_LEVEL = 0.95
_LEAST_SEEDS = 2
"""One difference has no spread: nothing is told apart, and nothing chosen, by fewer seeds."""
_SAME_COST = 0.1
_SEEDS = 2**31
Runs = Mapping[tuple[int, int], float | None]
"""(trial, seed) -> the loss of the run, infinite of one that failed; None while it trains."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with the interval that holds the true one with a probability of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of the best trials under the fresh seeds."""

    trial: int
    values: tuple[float, ...]
    """The objective under each seed that counts, in their order; shorter where it was left out early."""
    behind: Interval | None
    """How much worse it is than the leader, paired by seed and positive also under ``max``; None of the
    leader itself, and under fewer than two seeds."""
    is_open: bool
    """Whether it is not told apart from the leader."""

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What the runs under fresh seeds have come to so far."""

    seeds: tuple[int, ...]
    """Those under which every candidate that was open has been trained: only they count."""
    wanted_seeds: int
    candidates: tuple[Candidate, ...]
    """The chosen one first, then the open ones by mean, then those that were told apart."""
    leader: int | None
    """The trial with the best mean; None as long as nothing counts."""
    chosen: int | None
    """Of those whose runs break the constraints least, by the means of their metrics, the cheapest of those
    that are not told apart (else the best): fewest training tokens, then seconds, then the best mean; what
    differs by less than a tenth costs the same. None before two seeds count, unless all others failed."""
    next_runs: tuple[tuple[int, int], ...]
    """(trial, seed) of the runs that may begin now."""
    is_over: bool
    """Whether no further run is needed."""

    def candidate(self, trial: int | None) -> Candidate | None:
        return next((one for one in self.candidates if one.trial == trial), None)


def confirmation_of(space: Space, records: Sequence[TrialRecord]) -> Confirmation | None:
    """The confirmation of what the search has found so far; None where none is wanted, or where fewer than
    two trials are complete."""
    wanted = space.settings.search.confirm.seeds
    if wanted is None or len(candidates := contenders(space, records)) < _LEAST_SEEDS:
        return None
    first: int = space.closed["training.seed"]
    seeds = [(first + index) % _SEEDS for index in range(1, wanted + 1)]
    sign = 1.0 if space.settings.objective.mode == "min" else -1.0
    numbers = [record.number for record in candidates]
    rounds = _Rounds.of(numbers, seeds, _runs(records, sign))
    found = _candidates(numbers, rounds, sign)
    is_decided = bool(rounds.still) and (len(rounds.counted) >= _LEAST_SEEDS or len(rounds.still) == 1)
    winner = _winner(candidates, records, rounds, space.settings.objective) if is_decided else None
    return Confirmation(
        seeds=tuple(rounds.counted),
        wanted_seeds=wanted,
        candidates=tuple(sorted(found, key=lambda one: (one.trial != winner, not one.is_open))),
        leader=rounds.leader,
        chosen=winner,
        next_runs=tuple(rounds.missing),
        is_over=rounds.is_over,
    )


def chosen(space: Space, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial that a sweep chooses: the one that its confirmation chooses, else the complete one with the
    best objective; None without any complete one."""
    confirmation = confirmation_of(space, records)
    best = ranked(records, space.settings.objective)
    number = None if confirmation is None else confirmation.chosen
    return next((one for one in best if number in (None, one.number)), None)


def contenders(space: Space, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The complete trials of which one will be chosen, by their own values: the best, or the best
    ``search.confirm.top``."""
    return ranked(records, space.settings.objective)[: space.settings.search.confirm.top or 1]


def asked_config(space: Space, record: TrialRecord) -> Config:
    """The configuration that a trial was asked to train, on the proxy or on the real thing. A seed changes
    the order of the training rows, new adapters and dropout; which rows are held out is the same under every
    one."""
    asked = search_config if record.is_proxy else real_config
    config = asked(space, record.values)
    if record.seed is None:
        return config
    training = config.training.model_copy(update={"seed": record.seed})
    return config.model_copy(update={"training": training})


def paired_difference(losses: Sequence[float], others: Sequence[float]) -> Interval:
    """How much larger (n,) losses are than (n,) others of the same seeds, n at least 2.

    With the differences d and their standard deviation s (n - 1 in its denominator): mean(d) plus and minus
    t s / sqrt(n), where t is the quantile at 0.975 of Student's t distribution with n - 1 degrees of freedom.
    """
    from scipy.special import stdtrit

    differences = [one - other for one, other in zip(losses, others, strict=True)]
    count, mean = len(differences), fmean(differences)
    quantile = float(stdtrit(count - 1, (1 + _LEVEL) / 2))
    half = quantile * stdev(differences) / math.sqrt(count)
    return Interval(mean=mean, low=mean - half, high=mean + half)


@dataclass(frozen=True, kw_only=True)
class _Rounds:
    """All rounds so far, played again: in each, every candidate that is still open trains under one seed."""

    losses: Mapping[int, list[float]]
    """Candidate -> its losses under the seeds that count, as long as it was open."""
    counted: Sequence[int]
    still: Sequence[int]
    """The candidates that are open."""
    missing: Sequence[tuple[int, int]]
    is_over: bool

    @classmethod
    def of(cls, candidates: Sequence[int], seeds: Sequence[int], runs: Runs) -> _Rounds:
        losses: dict[int, list[float]] = {number: [] for number in candidates}
        still, counted, missing = list(candidates), list[int](), list[tuple[int, int]]()
        for index, seed in enumerate(seeds):
            still = [number for number in still if runs.get((number, seed), 0.0) != math.inf]
            if len(still) < _LEAST_SEEDS:
                break
            missing += [(number, seed) for number in still if (number, seed) not in runs]
            if missing or any(runs[number, seed] is None for number in still):
                if index + 1 < _LEAST_SEEDS:
                    continue  # nobody is left out before the second round is over: both may train at once
                break
            if len(counted) < index:
                break  # an earlier round still trains
            counted.append(seed)
            for number in still:
                losses[number].append(float(runs[number, seed] or 0.0))
            still = _not_told_apart(still, losses)
        is_over = len(still) < _LEAST_SEEDS or len(counted) == len(seeds)
        return cls(
            losses=losses, counted=counted, still=still, missing=[] if is_over else missing, is_over=is_over
        )

    @property
    def leader(self) -> int | None:
        return _leader(self.still, self.losses) if self.counted and self.still else None


def _leader(still: Sequence[int], losses: Mapping[int, list[float]]) -> int:
    return min(still, key=lambda number: fmean(losses[number]))


def _not_told_apart(still: list[int], losses: Mapping[int, list[float]]) -> list[int]:
    leader = _leader(still, losses)
    if len(losses[leader]) < _LEAST_SEEDS:
        return still
    return [n for n in still if n == leader or paired_difference(losses[n], losses[leader]).low <= 0]


def _runs(records: Sequence[TrialRecord], sign: float) -> Runs:
    """Those that a budget cut short are to be had again."""
    runs: dict[tuple[int, int], float | None] = {}
    for record in records:
        if record.replicate_of is None or record.seed is None:
            continue
        key = (record.replicate_of, record.seed)
        if record.final_value is not None:
            runs[key] = sign * record.final_value
        elif record.state is TrialState.FAIL:
            runs[key] = math.inf
        elif record.state is TrialState.RUNNING:
            runs[key] = None
    return runs


def _candidates(numbers: Sequence[int], rounds: _Rounds, sign: float) -> list[Candidate]:
    """By their means; those without a run last."""
    found = [_candidate(number, rounds, sign) for number in numbers]
    return sorted(found, key=lambda one: math.inf if one.mean is None else sign * one.mean)


def _candidate(number: int, rounds: _Rounds, sign: float) -> Candidate:
    losses, leader = rounds.losses[number], rounds.leader
    behind = None
    if leader not in (None, number) and len(losses) >= _LEAST_SEEDS:
        assert leader is not None
        behind = paired_difference(losses, rounds.losses[leader][: len(losses)])
    return Candidate(
        trial=number,
        values=tuple(sign * loss for loss in losses),
        behind=behind,
        is_open=number in rounds.still,
    )


def _cheapest(tied: Sequence[TrialRecord], losses: Mapping[int, list[float]]) -> int:
    """A few rows that fill no global batch, or a machine that was busier for a while, decide nothing."""
    left = list(tied)
    for cost in (_tokens, _seconds):
        least = min(map(cost, left))
        left = [record for record in left if cost(record) <= (1 + _SAME_COST) * least]
    numbers = [record.number for record in left]
    return min(numbers, key=lambda number: fmean(losses[number] or [math.inf]))


def _winner(
    candidates: Sequence[TrialRecord], records: Sequence[TrialRecord], rounds: _Rounds, objective: Objective
) -> int:
    """What keeps to the constraints under fresh seeds goes before what has the better objective."""
    broken = {
        one.number: _violation([run for run in records if run.replicate_of == one.number], objective)
        for one in candidates
        if rounds.losses[one.number] or one.number in rounds.still
    }
    keeping = [one for one in candidates if broken.get(one.number, math.inf) <= min(broken.values())]
    tied = [one for one in keeping if one.number in rounds.still]
    if tied:
        return _cheapest(tied, rounds.losses)
    return _leader([one.number for one in keeping], rounds.losses)


def _violation(runs: Sequence[TrialRecord], objective: Objective) -> float:
    found = [run.decisive.metrics for run in runs if run.final_value is not None and run.decisive is not None]
    names = [one.metric for one in constraints_of(objective)]
    return violation(
        objective, {name: fmean(one.get(name, math.nan) for one in found) for name in names if found}
    )


def _tokens(record: TrialRecord) -> float:
    return float(record.evaluations[-1].tokens) if record.evaluations else 0.0


def _seconds(record: TrialRecord) -> float:
    return math.inf if record.seconds is None else record.seconds
