"""The sampler and the stopper ``auto``.

``coordinates``, ``view`` and ``past`` turn a space, its records and past sweeps into arrays; ``surrogate``,
``curves`` and ``prior`` are the models; ``standing``, ``propose`` and ``next`` decide. Everything is a pure
function of what the ledger and the sweep's snapshot of history hold: a resumed sweep asks what an undisturbed
one would have asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.search.auto.past import Past
from sweeper.search.records import TrialRecord

if TYPE_CHECKING:
    from sweeper.space import Space, Values

__all__ = ["Past", "propose_auto"]


def propose_auto(space: Space, records: Sequence[TrialRecord], past: Past | None = None) -> Values | None:
    """The configuration of the next new trial; None where each one of a discrete space was asked.

    Without ``past`` the first one is the rule of thumb, with it the second at the latest.
    """
    import numpy as np

    from sweeper.search.auto.coordinates import Coordinates
    from sweeper.search.auto.propose import Candidates, propose_point
    from sweeper.search.auto.view import standing_of

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
    )
    prior = None if past is None else past.prior
    point = propose_point(standing_of(space, coordinates, records, past), candidates, prior, seed)
    if (point == rule).all():
        return space.default_values()  # to the last bit
    return left.get(point.tobytes()) or coordinates.values(point)
