"""The sampler and the stopper ``auto``.

``coordinates`` and ``view`` turn a space and its records into arrays; ``surrogate``, ``curves``, ``prior``
and, of two objectives, ``tradeoff`` are the models; ``standing``, ``propose`` and ``next`` decide. Everything
is a pure function of what the ledger holds: a resumed sweep asks what an undisturbed one would have asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.search.records import TrialRecord

if TYPE_CHECKING:
    from sweeper.space import Space, Values

__all__ = ["propose_auto"]


def propose_auto(space: Space, records: Sequence[TrialRecord]) -> Values | None:
    """The configuration of the next new trial; None where each one of a discrete space was asked."""
    import numpy as np

    from sweeper.search.auto.coordinates import Coordinates
    from sweeper.search.auto.propose import Candidates, propose_point
    from sweeper.search.auto.view import known_costs, standing_of

    coordinates, seed = Coordinates(space), space.settings.search.seed
    left = coordinates.candidates((record.values for record in records), seed)
    if not left:
        return None
    candidates = Candidates(
        pool=np.array([np.frombuffer(key) for key in left]),
        rule=coordinates.point(space.default_values()),
        around=coordinates.around if coordinates.is_continuous else None,
        groups=coordinates.groups,
        known_costs=known_costs(space, coordinates),
    )
    point = propose_point(standing_of(space, coordinates, records), candidates, None, seed)
    return left.get(point.tobytes()) or coordinates.values(point)
