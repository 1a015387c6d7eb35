"""What a free worker does next: a paused trial that deserves it, a new configuration, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.search.auto.prior import Prior
from sweeper.search.auto.propose import Candidates, propose_point
from sweeper.search.auto.standing import Standing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Start", "Thaw", "what_next"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """A new trial."""

    point: NDArray[np.float64]
    """(columns,)."""


@dataclass(frozen=True, kw_only=True)
class Thaw:
    """A paused trial goes on."""

    number: int
    chance: float


def what_next(
    standing: Standing, candidates: Candidates | None, prior: Prior | None, seed: int
) -> Start | Thaw | None:
    """Decide it.

    A paused trial whose chance has risen above the risk comes before anything new. Where nothing new is left
    (``candidates`` is None), the leader is trained to its end, and then the others, the best chance first.
    """
    paused = standing.goes_on(space_is_exhausted=None if candidates is not None else True)
    if paused is not None:
        return Thaw(number=paused.number, chance=standing.chance(paused))
    return None if candidates is None else Start(point=propose_point(standing, candidates, prior, seed))
