"""A sweep's records as the search sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.curves import Curve
from sweeper.search.auto.standing import Phase, SeenTrial, Standing, is_control
from sweeper.search.records import TrialRecord, TrialState, is_diverged
from sweeper.space.schedules import lr_multiplier, warmup_steps

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = ["standing_of"]

_SCHEDULE = {"scheduler", "warmup_ratio", "decay_ratio", "final_lr_ratio"}
_STEPS = 1000
"""Schedules are functions of progress: how finely it is told."""
_PHASES = {
    TrialState.RUNNING: Phase.RUNNING,
    TrialState.WAITING: Phase.RUNNING,
    TrialState.PAUSED: Phase.PAUSED,
    TrialState.COMPLETE: Phase.ENDED,
    TrialState.PRUNED: Phase.STOPPED,
    TrialState.FAIL: Phase.FAILED,
}


def standing_of(space: Space, coordinates: Coordinates, records: Sequence[TrialRecord]) -> Standing:
    """How the trials that a sweep's search asked for stand. A trial that failed for no fault of its values is
    left out."""
    metric = space.settings.objective.metric
    seen = [
        _seen(space, coordinates, place, record, records)
        for place, record in enumerate(records)
        if record.state is not TrialState.FAIL or is_diverged(record, metric)
    ]
    return Standing(trials=seen, at=space.settings.objective.at)


def _seen(
    space: Space, coordinates: Coordinates, place: int, record: TrialRecord, records: Sequence[TrialRecord]
) -> SeenTrial:
    """``place`` counts what was asked for: a trial's number also counts the runs under other seeds."""
    curve = _curve(space, record)
    phase = _PHASES[record.state]
    return SeenTrial(
        number=record.number,
        point=coordinates.point(record.values),
        curve=curve,
        phase=phase,
        control=is_control(space.settings.search.seed, place),
        best_seen_after=_started_before_best(place, record, curve, records),
    )


def _curve(space: Space, record: TrialRecord) -> Curve:
    objective = space.settings.objective
    sign = 1.0 if objective.mode == "min" else -1.0
    values = [one.metrics.get(objective.metric, math.nan) for one in record.evaluations]
    losses = tuple(sign * value if math.isfinite(value) else math.inf for value in values)
    tokens = tuple(float(one.tokens) for one in record.evaluations)
    total = float(record.attributes.get("total_tokens") or max(tokens, default=1.0))
    ahead = tuple(_fall_ahead(record, one / total) for one in tokens)
    return Curve(tokens=tokens, losses=losses, total_tokens=total, fall_ahead=ahead)


def _fall_ahead(record: TrialRecord, position: float) -> float:
    """The part of the learning rate's fall that comes after ``position``, 0 to 1; 0 where it is not known."""
    training = record.attributes.get("config", {}).get("training", {})
    if not training.keys() >= _SCHEDULE:
        return 0.0

    def multiplier(step: int) -> float:
        return lr_multiplier(
            step,
            total_steps=_STEPS,
            scheduler=training["scheduler"],
            warmup_ratio=training["warmup_ratio"],
            decay_ratio=training["decay_ratio"],
            final_ratio=training["final_lr_ratio"],
        )

    warmed_up = max(round(position * _STEPS), warmup_steps(_STEPS, training["warmup_ratio"]))
    return max(0.0, multiplier(min(warmed_up, _STEPS)) - multiplier(_STEPS))


def _started_before_best(
    place: int, record: TrialRecord, curve: Curve, records: Sequence[TrialRecord]
) -> int:
    if not curve.losses:
        return len(records)
    then_s = record.evaluations[curve.losses.index(curve.best)].time_s
    if then_s is None:
        return place + 1
    return sum(one.started_s is not None and one.started_s <= then_s for one in records)
