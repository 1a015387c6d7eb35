"""Past sweeps in the coordinates of a space: the prior and the learning curves that ``auto`` goes by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sweeper.history import lr_ratio
from sweeper.search.records import Evaluation, TrialRecord, TrialState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sweeper.history import Features, PastTrial, Snapshot, SweepOfHistory
    from sweeper.search.auto.curves import Curve, SeenInPast
    from sweeper.search.auto.prior import PastSweep, Prior
    from sweeper.space import Space

    Array = NDArray[np.float64]

__all__ = ["Past"]

_FAR = 1.0
"""A past value that lies further outside of the range than the range is wide counts as that far."""


class Past:
    """A snapshot of history, for the space of one sweep. Everything is computed when it is first asked for,
    and does not change."""

    def __init__(self, space: Space, snapshot: Snapshot) -> None:
        self._space, self._snapshot = space, snapshot
        self._grown: Past | None = None

    def within(self, space: Space) -> Past:
        """The same in the coordinates of the space with other ranges; remembers the last one."""
        if space.dimensions == self._space.dimensions:
            return self
        if self._grown is None or self._grown._space.dimensions != space.dimensions:
            self._grown = Past(space, self._snapshot)
        return self._grown

    @cached_property
    def prior(self) -> Prior | None:
        """None where no past sweep is of use for this space."""
        from sweeper.search.auto.coordinates import Coordinates
        from sweeper.search.auto.prior import Prior

        coordinates = Coordinates(self._space)
        pairs = zip(self._snapshot.sweeps, self._snapshot.similarities, strict=True)
        prior = Prior([self._past_sweep(*pair, coordinates) for pair in pairs], coordinates.groups)
        return prior if len(prior) else None

    @cached_property
    def curves(self) -> tuple[tuple[Curve, ...], ...]:
        """Of the trials that were trained to their ends, by sweep."""
        ended = (
            tuple(self._curve(one, sweep) for one in sweep.trials if one.state == "COMPLETE")
            for sweep in self._snapshot.sweeps
        )
        return tuple(curves for curves in ended if curves)

    @cached_property
    def seen(self) -> SeenInPast:
        """What these curves show."""
        from sweeper.search.auto.curves import seen_in_past

        return seen_in_past(self.curves)

    def _past_sweep(self, sweep: SweepOfHistory, alike: float, coordinates: Any) -> PastSweep:
        import numpy as np

        from sweeper.search.auto.prior import PastSweep

        placed = [(one, self._point(one, sweep.facts.features, coordinates)) for one in sweep.trials]
        known = [(point, self._loss(one, sweep)) for one, point in placed if point is not None]
        points = np.array([point for point, _ in known]).reshape(len(known), len(coordinates.groups))
        return PastSweep(points=points, losses=np.array([loss for _, loss in known]), similarity=alike)

    def _point(self, trial: PastTrial, then: Features, coordinates: Any) -> Array | None:
        """None where the trial has an option that this space does not have."""
        import numpy as np

        found: dict[str, Any] = {}
        for dimension in self._space.dimensions:
            value = _at(trial.config, dimension.path)
            if value is not None:
                found[dimension.name] = value
        if "lr" in found:
            found["lr"] *= lr_ratio(self._snapshot.features, then)
        try:
            point: Array = np.clip(coordinates.point(found), -_FAR, 1 + _FAR)
        except (ValueError, TypeError):
            return None
        return point

    def _loss(self, trial: PastTrial, sweep: SweepOfHistory) -> float:
        """As this sweep judges: the best evaluation's, or the last one's; infinite where it diverged."""

        curve = self._curve(trial, sweep)
        if trial.state == "FAIL" or not curve.losses:
            return math.inf
        return curve.best if self._space.settings.objective.at == "best" else curve.losses[-1]

    def _curve(self, trial: PastTrial, sweep: SweepOfHistory) -> Curve:
        from sweeper.search.auto.view import curve_of

        return curve_of(self._space, _record(trial, sweep.facts.metric))


def _record(trial: PastTrial, metric: str) -> TrialRecord:
    """As the ledger of its sweep would tell of it."""

    return TrialRecord(
        number=trial.number,
        state=TrialState(trial.state),
        values={},
        value=None,
        evaluations=tuple(
            Evaluation(
                tokens=int(tokens), step=0, seconds=0.0, metrics={metric: math.nan if loss is None else loss}
            )
            for tokens, loss in trial.evaluations
        ),
        attributes={"config": trial.config, "total_tokens": trial.total_tokens},
    )


def _at(config: Mapping[str, Any], path: str) -> Any:
    """A closed value by its dotted path; None where the configuration does not have it."""
    place: Any = config
    for name in path.split("."):
        if not isinstance(place, Mapping) or name not in place:
            return None
        place = place[name]
    return place
