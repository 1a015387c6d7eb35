"""A sweep's records as the search sees them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.curves import Curve
from sweeper.search.auto.standing import Phase, SeenTrial, Standing, is_control
from sweeper.search.front import expected_second, is_cost
from sweeper.search.losses import Curves
from sweeper.search.records import TrialRecord, TrialState, is_diverged
from sweeper.space import GROUPS, constraints_of, size_of
from sweeper.space.metrics import better
from sweeper.space.schedules import lr_multiplier, warmup_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sweeper.search.auto.past import Past
    from sweeper.space import Objective, Scalar, Scheduler, Space

    Array = NDArray[np.float64]

__all__ = ["View", "curve_of", "known_costs"]

_SCHEDULE = {"scheduler", "warmup_ratio", "decay_ratio", "final_lr_ratio"}
_SIZES = GROUPS[2]
"""Paths of the fields that say how many rows a trial trains on."""
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
    """The records of one sweep. Remembers where its trials lie and what their curves are, those of finished
    ones by number and those of others as long as their records are the same, so that a decision costs what is
    new."""

    def __init__(self, space: Space, coordinates: Coordinates, past: Past | None = None) -> None:
        """``past`` are other sweeps, whose curves show how curves end."""
        self._space, self._coordinates, self._past = space, coordinates, past
        self._placed: dict[int, tuple[TrialRecord, Array, Curve]] = {}
        """By the trial's number, with the record that it was read from."""

    def standing(self, records: Sequence[TrialRecord]) -> Standing:
        """How the trials that the search asked for stand. One that failed for no fault of its values is left
        out."""
        objective = self._space.settings.objective
        starts_s = sorted(one.started_s for one in records if one.started_s is not None)
        seen = [
            self._seen(place, record, starts_s, len(records))
            for place, record in enumerate(records)
            if record.state is not TrialState.FAIL or is_diverged(record, objective.metric)
        ]
        return Standing(
            trials=seen,
            past_curves=() if self._past is None else self._past.curves,
            at=objective.at,
            weighs_costs=objective.also is not None,
        )

    def _seen(self, place: int, record: TrialRecord, starts_s: Sequence[float], count: int) -> SeenTrial:
        """``place`` counts what was asked for: a trial's number also counts the runs under other seeds."""
        point, curve = self._place(record)
        return SeenTrial(
            number=record.number,
            point=point,
            curve=curve,
            phase=_PHASES[record.state],
            control=is_control(self._space.settings.search.seed, place),
            best_seen_after=_started_before_best(place, record, curve, starts_s) if curve.losses else count,
            cost=_cost(record, self._space.settings.objective),
            excesses=_excesses(record, self._space.settings.objective),
            measured=_measured(record, self._space.settings.objective),
        )

    def _place(self, record: TrialRecord) -> tuple[Array, Curve]:
        known = self._placed.get(record.number)
        if known is not None and (known[0] is record or known[0].state.is_finished):
            return known[1:]
        placed = self._coordinates.point(record.values), curve_of(self._space, record)
        self._placed[record.number] = (record, *placed)
        return placed


def known_costs(space: Space, coordinates: Coordinates) -> Callable[[Array], Array] | None:
    """What is known before training of the costs of (m, columns): the logarithm of the rows trained on, to
    which tokens are proportional, and seconds about so. None where nothing is."""
    if space.settings.objective.also not in ("tokens", "gpu_seconds"):
        return None

    sizing = [one for one in space.dimensions if one.path in _SIZES or one.path.startswith("data_path.")]
    asked = {name for one in sizing for name in (one.name, *(other for other, _ in one.when))}
    telling = [one.name for one in space.dimensions if one.name in asked]
    packing: bool = space.closed["training.packing"]  # how many sequences packed rows fill is not known here

    @cache
    def log_rows(*chosen: Scalar | None) -> float:
        given = {name: value for name, value in zip(telling, chosen, strict=True) if value is not None}
        config = space.close(given)
        size = size_of(config, space.train_rows(config))
        return math.log(size.epochs if packing else max(size.rows, 1))

    def known(points: Array) -> Array:
        values = map(coordinates.values, points)
        return np.array([log_rows(*map(one.get, telling)) for one in values])

    return known


def _cost(record: TrialRecord, objective: Objective) -> float | None:
    second = expected_second(record, objective)
    if second is None or not is_cost(objective):
        return -second if second is not None and better(objective.also or "") == "max" else second
    return math.log(second) if second > 0 else None


def _excesses(record: TrialRecord, objective: Objective) -> tuple[float, ...]:
    """Of each constraint where the trial is judged; empty where nothing was measured, or there are none."""
    if record.decisive is None:
        return ()
    return tuple(one.excess(record.decisive.metrics) for one in constraints_of(objective))


def _measured(record: TrialRecord, objective: Objective) -> float | None:
    """The loss that the trial is judged by, whatever it breaks; None where there is no number."""
    loss = Curves(metric=objective.metric, mode=objective.mode).loss(record.value)
    return loss if math.isfinite(loss) else None


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

    given = training.get("warmup_steps")
    steps = record.attributes.get("total_steps") or _STEPS
    ratio = training["warmup_ratio"] if given is None else min(given / steps, 1.0)
    return _fall_after(
        round(position * _STEPS),
        training["scheduler"],
        ratio,
        training["decay_ratio"],
        training["final_lr_ratio"],
    )


@lru_cache(maxsize=1 << 17)  # asked of every evaluation for every proposal, and some microseconds each
def _fall_after(step: int, scheduler: Scheduler, ratio: float, decay_ratio: float, final: float) -> float:
    def multiplier(at: int) -> float:
        return lr_multiplier(
            at,
            total_steps=_STEPS,
            scheduler=scheduler,
            warmup_ratio=ratio,
            decay_ratio=decay_ratio,
            final_ratio=final,
        )

    warmed_up = max(step, warmup_steps(_STEPS, ratio))
    return max(0.0, multiplier(min(warmed_up, _STEPS)) - multiplier(_STEPS))


def _started_before_best(place: int, record: TrialRecord, curve: Curve, starts_s: Sequence[float]) -> int:
    """How many trials had been started when its best loss was measured; ``starts_s`` rise."""
    then_s = record.evaluations[curve.losses.index(curve.best)].time_s
    return place + 1 if then_s is None else bisect_right(starts_s, then_s)
