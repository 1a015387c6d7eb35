"""The sampler and the stopper ``auto``.

``coordinates``, ``view`` and ``past`` turn a space, its records and past sweeps into arrays; ``surrogate``,
``curves``, ``prior`` and, of two objectives, ``tradeoff`` are the models; ``standing``, ``propose`` and
``next`` decide. Everything is a pure function of what the ledger and the sweep's snapshot of history hold: a
resumed sweep asks what an undisturbed one would have asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.search.auto.past import Past
from sweeper.search.front import feasible, ranked
from sweeper.search.records import TrialRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sweeper.space import Space, Values

__all__ = ["AutoSampler", "Past", "how_sure"]

_MOST_TRIALS = 150
"""Of more complete trials only the best are told apart."""


class AutoSampler:
    """Proposes the trials of one sweep. It remembers what it has looked at, and answers as a new one
    would."""

    def __init__(self) -> None:
        self._asks: _Asks | None = None

    def propose(
        self, space: Space, records: Sequence[TrialRecord], past: Past | None = None
    ) -> Values | None:
        """The configuration of the next new trial; None where each one of a discrete space was asked.

        Without ``past`` the first one is the rule of thumb, with it the second at the latest.
        """
        asks = self._asks
        if asks is None or asks.space.dimensions != space.dimensions or asks.past is not past:
            asks = self._asks = _Asks(space, past)
        return asks.next(records)


class _Asks:
    """Of a space whose ranges stay as they are."""

    def __init__(self, space: Space, past: Past | None) -> None:
        from sweeper.search.auto.coordinates import Coordinates
        from sweeper.search.auto.view import View, known_costs

        self.space, self.past = space, past
        self._coordinates, self._rule_values = Coordinates(space), space.default_values()
        self._rule = self._coordinates.point(self._rule_values)
        self._view = View(space, self._coordinates, past)
        self._known_costs = known_costs(space, self._coordinates)
        self._pool: tuple[list[bytes], NDArray[np.float64]] | None = None

    def next(self, records: Sequence[TrialRecord]) -> Values | None:
        from sweeper.search.auto.propose import Candidates, propose_point

        coordinates, seed = self._coordinates, self.space.settings.search.seed
        standing = self._view.standing(records)
        left = coordinates.candidates(self._view.asked, seed)
        if not left:
            return None
        candidates = Candidates(
            pool=self._points(list(left)),
            rule=self._rule,
            around=coordinates.around if coordinates.is_continuous else None,
            groups=coordinates.groups,
            known_costs=self._known_costs,
        )
        prior = None if self.past is None else self.past.prior
        point = propose_point(standing, candidates, prior, seed)
        if (point == self._rule).all():
            return dict(self._rule_values)  # to the last bit
        return left.get(point.tobytes()) or coordinates.values(point)

    def _points(self, left: list[bytes]) -> NDArray[np.float64]:
        """The very array of the last time where it is the same: a prior remembers it."""
        import numpy as np

        if self._pool is None or self._pool[0] != left:
            self._pool = left, np.array([np.frombuffer(key) for key in left])
        return self._pool[1]


def how_sure(space: Space, records: Sequence[TrialRecord]) -> dict[int, float]:
    """The chance of each complete trial that its configuration is the best of them, the most likely first;
    empty where too few are complete to tell. Only those that keep to the constraints count."""
    import numpy as np

    from sweeper.search.auto.coordinates import Coordinates
    from sweeper.search.auto.sure import LEAST_TRIALS, chances_of_best

    objective = space.settings.objective
    complete = feasible(ranked(records, objective), objective)[:_MOST_TRIALS]
    if len(complete) < LEAST_TRIALS or not space.dimensions:
        return {}
    coordinates, sign = Coordinates(space), 1.0 if space.settings.objective.mode == "min" else -1.0
    points = np.array([coordinates.point(one.values) for one in complete])
    losses = np.array([sign * (one.final_value or 0.0) for one in complete])
    chances = chances_of_best(points, losses, coordinates.groups).tolist()
    found = [(one.number, chance) for one, chance in zip(complete, chances, strict=True)]
    return dict(sorted(found, key=lambda one: -one[1]))
