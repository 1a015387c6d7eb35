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
    from sweeper.space import Space, Values

__all__ = ["Past", "how_sure", "propose_auto"]

_MOST_TRIALS = 150
"""Of more complete trials only the best are told apart."""


def propose_auto(space: Space, records: Sequence[TrialRecord], past: Past | None = None) -> Values | None:
    """The configuration of the next new trial; None where each one of a discrete space was asked.

    Without ``past`` the first one is the rule of thumb, with it the second at the latest.
    """
    import numpy as np

    from sweeper.search.auto.coordinates import Coordinates
    from sweeper.search.auto.propose import Candidates, propose_point
    from sweeper.search.auto.view import View, known_costs

    coordinates, seed = Coordinates(space), space.settings.search.seed
    left = coordinates.candidates((record.values for record in records), seed)
    if not left:
        return None
    rule = coordinates.point(space.default_values())
    candidates = Candidates(
        pool=np.array([np.frombuffer(key) for key in left]),
        rule=rule,
        around=coordinates.around if coordinates.is_continuous else None,
        groups=coordinates.groups,
        known_costs=known_costs(space, coordinates),
    )
    prior = None if past is None else past.prior
    point = propose_point(View(space, coordinates, past).standing(records), candidates, prior, seed)
    if (point == rule).all():
        return space.default_values()  # to the last bit
    return left.get(point.tobytes()) or coordinates.values(point)


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
