"""A sweep's records as the search sees them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.curves import Curve
from sweeper.search.auto.standing import Phase, SeenTrial, Standing, is_control
from sweeper.search.losses import Curves
from sweeper.search.records import TrialRecord, TrialState, is_diverged
from sweeper.space.schedules import lr_multiplier, warmup_steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sweeper.search.auto.past import Past
    from sweeper.space import Space

    Array = NDArray[np.float64]

__all__ = ["View", "curve_of"]

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


class View:
    """The records of one sweep. Remembers where its finished trials lie and what their curves are, which does
    not change any more, so that a decision costs what is new."""

    def __init__(self, space: Space, coordinates: Coordinates, past: Past | None = None) -> None:
        """``past`` are other sweeps, whose curves show how curves end."""
        self._space, self._coordinates, self._past = space, coordinates, past
        self._finished: dict[int, tuple[Array, Curve]] = {}
        """By the trial's number."""

    def standing(self, records: Sequence[TrialRecord]) -> Standing:
        """How the trials stand. One that failed for no fault of its values is left out."""
        objective = self._space.settings.objective
        starts_s = sorted(one.started_s for one in records if one.started_s is not None)
        seen = [
            self._seen(record, starts_s, len(records))
            for record in records
            if record.state is not TrialState.FAIL or is_diverged(record, objective.metric)
        ]
        past_curves = () if self._past is None else self._past.curves
        return Standing(trials=seen, past_curves=past_curves, at=objective.at)

    def _seen(self, record: TrialRecord, starts_s: Sequence[float], count: int) -> SeenTrial:
        point, curve = self._finished.get(record.number) or self._place(record)
        return SeenTrial(
            number=record.number,
            point=point,
            curve=curve,
            phase=_PHASES[record.state],
            control=is_control(self._space.settings.search.seed, record.number),
            best_seen_after=_started_before_best(record, curve, starts_s) if curve.losses else count,
        )

    def _place(self, record: TrialRecord) -> tuple[Array, Curve]:
        placed = self._coordinates.point(record.values), curve_of(self._space, record)
        if record.state.is_finished:
            self._finished[record.number] = placed
        return placed


def curve_of(space: Space, record: TrialRecord) -> Curve:
    """A trial's evaluations of the objective as losses."""
    points = Curves.of(space.settings.objective).points(record)
    tokens = tuple(float(one) for one, _ in points)
    total = float(record.attributes.get("total_tokens") or max(tokens, default=1.0))
    return Curve(
        tokens=tokens,
        losses=tuple(loss for _, loss in points),
        total_tokens=total,
        fall_ahead=tuple(_fall_ahead(record, one / total) for one in tokens),
    )


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


def _started_before_best(record: TrialRecord, curve: Curve, starts_s: Sequence[float]) -> int:
    """How many trials had been started when its best loss was measured; ``starts_s`` rise."""
    then_s = record.evaluations[curve.losses.index(curve.best)].time_s
    return record.number + 1 if then_s is None else bisect_right(starts_s, then_s)
