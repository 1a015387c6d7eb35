"""A sweep's records as the search sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.curves import Curve
from sweeper.search.auto.rows import Phase, Rows, SeenTrial
from sweeper.search.auto.standing import Standing, is_control
from sweeper.search.front import expected_second, is_cost
from sweeper.search.grid import configuration_key
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
    """The records of one sweep as arrays. It is kept in step: a question costs what is new, and what it is
    told is what a new view would be told. Curves of finished trials are never worked out again."""

    def __init__(self, space: Space, coordinates: Coordinates, past: Past | None = None) -> None:
        """``past`` are other sweeps, whose curves show how curves end."""
        self._space, self._coordinates, self._past = space, coordinates, past
        self._clear()

    def _clear(self) -> None:
        self._records: list[TrialRecord] = []
        self._starts_s: Array = np.zeros(0)
        """(n,), not a number where a trial has not been started."""
        self._rows = Rows(self._space.settings.objective.at)
        self.asked: set[frozenset[tuple[str, Scalar]]] = set()
        """The keys of all configurations that were asked for."""

    def standing(self, records: Sequence[TrialRecord]) -> Standing:
        """How the trials that the search asked for stand. One that failed for no fault of its values is left
        out."""
        objective = self._space.settings.objective
        self._update(records)
        return Standing(
            trials=self._rows,
            past=() if self._past is None else self._past.seen,
            at=objective.at,
            weighs_costs=objective.also is not None,
            seen_after=self._started_before_best,
        )

    def _update(self, records: Sequence[TrialRecord]) -> None:
        """Look at those that are not the very records of the last time."""
        known = self._records
        if len(records) < len(known):
            self._clear()
            self._update(records)
            return
        changed = [
            *compress(range(len(known)), map(is_not, records, known)),
            *range(len(known), len(records)),
        ]
        if any(
            not _is_same_trial(one, records[place]) for place in changed for one in known[place : place + 1]
        ):
            self._clear()  # another sweep's
            self._update(records)
            return
        self._rows.put((place, self._seen(place, records[place])) for place in changed)
        self.asked.update(configuration_key(records[place].values) for place in changed)
        starts_s = np.full(len(records), np.nan)
        starts_s[: len(known)] = self._starts_s
        for place in changed:
            started_s = records[place].started_s
            starts_s[place] = math.nan if started_s is None else started_s
        self._records, self._starts_s = list(records), starts_s

    def _seen(self, place: int, record: TrialRecord) -> SeenTrial | None:
        """``place`` counts what was asked for: a trial's number also counts the runs under other seeds."""
        objective = self._space.settings.objective
        if record.state is TrialState.FAIL and not is_diverged(record, objective.metric):
            return None
        before = self._rows.trials[place] if place < len(self._rows.trials) else None
        is_over = place < len(self._records) and self._records[place].state.is_finished
        return SeenTrial(
            number=record.number,
            point=self._coordinates.point(record.values) if before is None else before.point,
            curve=before.curve if before is not None and is_over else curve_of(self._space, record),
            phase=_PHASES[record.state],
            control=is_control(self._space.settings.search.seed, place),
            cost=_cost(record, objective),
            excesses=_excesses(record, objective),
            measured=_measured(record, objective),
        )

    def _started_before_best(self, trial: SeenTrial) -> int:
        """How many trials had been started when its best loss was measured, by their clocks."""
        place = self._rows.index[trial.number]
        then_s = self._records[place].evaluations[trial.curve.losses.index(trial.curve.best)].time_s
        return place + 1 if then_s is None else int((self._starts_s <= then_s).sum())


def _is_same_trial(one: TrialRecord, other: TrialRecord) -> bool:
    return one.number == other.number and one.values == other.values


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
