"""Which trial is better, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sweeper.search import (
    Candidate,
    TrialRecord,
    TrialState,
    chosen,
    confirmation_of,
    front_of,
    second_of,
    violation_of,
)
from sweeper.search.records import finite_or_none

if TYPE_CHECKING:
    from sweeper.space import Objective, Scalar, Space

__all__ = [
    "ResultRow",
    "best_record",
    "decisive_epoch",
    "default_record",
    "improvement",
    "result_rows",
    "tokens_seen",
]

_ORDER = (
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.PAUSED,
    TrialState.RUNNING,
    TrialState.WAITING,
    TrialState.FAIL,
)
"""Only complete trials are ranked: the last value of a stopped one is not comparable with a final one."""


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One trial of the final table."""

    rank: int | None
    """1 is the best; None for a trial that was not trained to its end."""
    trial: int
    state: TrialState
    is_default: bool
    value: float | None
    """The objective at the evaluation that the trial is judged by, None where it is not a number."""
    value_tokens: int | None
    """Training tokens seen at that evaluation."""
    value_epoch: float | None
    """Passes over the training rows until then, by tokens; None where the trial's length is not known."""
    improvement: float | None
    """By which fraction of the default's objective this one is better; negative is worse."""
    values: Mapping[str, Scalar]
    tokens: int
    """Training tokens seen."""
    seconds: float | None
    reason: str | None
    also: float | None = None
    """The second objective of a complete trial; None where there is one objective."""
    is_pareto: bool = False
    """Whether it is a member of the Pareto front."""
    is_proxy: bool = False
    """Whether it was trained on the proxy, whose values are no rivals of the others."""
    real_of: int | None = None
    """The trial on the proxy whose values it trained on the real thing."""
    bounded: Mapping[str, float | None] = field(default_factory=dict)
    """Of each constraint, the metric where the trial is judged."""
    is_feasible: bool = True
    """Whether it keeps to all constraints there."""
    confirmed: Candidate | None = None
    """What its runs under fresh seeds say, where they decide."""


def best_record(space: Space, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial that the sweep chooses, see ``sweeper.search.chosen``."""
    return chosen(space, trials)


def default_record(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial of the rules of thumb: the one that was trained to its end, else the newest; with a proxy, on
    the real thing."""
    defaults = [one for one in trials if one.is_default and not one.is_proxy]
    return next((one for one in defaults if one.final_value is not None), defaults[-1] if defaults else None)


def improvement(space: Space, value: float | None, default: float | None) -> float | None:
    """(default - value) / |default| where less is better, the negative of it where more is.

    None where either is missing or not finite, or the default is zero and a ratio means nothing.
    """
    if value is None or not default or not math.isfinite(value) or not math.isfinite(default):
        return None
    sign = 1.0 if space.settings.objective.mode == "min" else -1.0
    return sign * (default - value) / abs(default)


def result_rows(space: Space, trials: Sequence[TrialRecord]) -> list[ResultRow]:
    """All trials but the runs under other seeds: the complete ones by objective, before them those that a
    confirmation has put in order; then the stopped, the unfinished and the failed. Those on a proxy come
    after them in the same order, and have no rank."""
    default = default_record(trials)
    base = None if default is None else default.final_value
    objective = space.settings.objective
    front = {one.number for one in front_of(trials, objective)}
    confirmation = confirmation_of(space, trials)
    decides = confirmation is not None and confirmation.chosen is not None
    confirmed = confirmation.candidates if confirmation is not None and decides else ()
    places = {one.trial: place for place, one in enumerate(confirmed)}
    ordered = sorted(
        (one for one in trials if one.replicate_of is None),
        key=lambda one: (
            one.is_proxy,
            _ORDER.index(one.state),
            places.get(one.number, len(places)),
            violation_of(one, objective),
            _badness(space, one.value),
            one.number,
        ),
    )
    return [
        ResultRow(
            rank=None if one.final_value is None or one.is_proxy else rank,
            trial=one.number,
            state=one.state,
            is_default=one.is_default,
            value=finite_or_none(one.value),
            value_tokens=None if one.decisive is None else one.decisive.tokens,
            value_epoch=decisive_epoch(one),
            improvement=None if one.is_proxy else improvement(space, one.final_value, base),
            values=one.values,
            tokens=tokens_seen(one),
            seconds=one.seconds,
            reason=one.reason,
            also=second_of(one, objective),
            is_pareto=one.number in front,
            is_proxy=one.is_proxy,
            real_of=one.real_of,
            bounded=_bounded(one, objective),
            is_feasible=not violation_of(one, objective),
            confirmed=confirmed[places[one.number]] if one.number in places else None,
        )
        for rank, one in enumerate(ordered, start=1)
    ]


def _bounded(record: TrialRecord, objective: Objective) -> dict[str, float | None]:
    metrics = {} if record.decisive is None else record.decisive.metrics
    return {name: finite_or_none(metrics.get(name)) for name in objective.constraints or ()}


def decisive_epoch(record: TrialRecord) -> float | None:
    """Where the evaluation that a trial is judged by stands in its epochs, by tokens."""
    total, ran = record.attributes.get("total_tokens"), record.attributes.get("config")
    if record.decisive is None or not total or ran is None:
        return None
    return float(ran["training"]["epochs"]) * record.decisive.tokens / float(total)


def tokens_seen(record: TrialRecord) -> int:
    """Training tokens up to the trial's last evaluation."""
    return record.evaluations[-1].tokens if record.evaluations else 0


def _badness(space: Space, value: float | None) -> float:
    if value is None or not math.isfinite(value):
        return math.inf
    return value if space.settings.objective.mode == "min" else -value
