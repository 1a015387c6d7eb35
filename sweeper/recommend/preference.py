"""Which member of the Pareto front is the answer, by what is preferred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from sweeper.recommend.ranking import best_record, default_record
from sweeper.search import TrialRecord, front_of, second_of
from sweeper.search.front import is_cost

if TYPE_CHECKING:
    from sweeper.space import Objective, Space

__all__ = ["PREFERENCES", "Preference", "evidence", "front_line", "preferred"]

Preference = Literal["loss", "cost", "knee"]
PREFERENCES: dict[Preference, str] = {
    "loss": "the best first objective",
    "cost": "the best second objective among the trials of the front that are no worse than the default in "
    "the first",
    "knee": "the trial of the front that lies farthest below the line between its ends",
}
"""What each of them means."""


def preferred(space: Space, trials: Sequence[TrialRecord], prefer: Preference) -> TrialRecord | None:
    """The trial of that preference; None where none was trained to its end.

    ``loss``: the best first objective, of equal ones the best second one. ``cost``: the best second objective
    among the members that are no worse than the default in the first, so that nobody saves at the price of
    less than doing nothing gives; the default itself may be it, and one that was not trained to its end is
    beaten by every member. ``knee``: see ``_depths``; of equal ones the best first objective.

    With one objective, and where no second one was measured, it is the best trial.
    """
    front = front_of(trials, space.settings.objective)
    if not front or prefer == "loss":
        return best_record(space, trials)
    if prefer == "cost":
        default = default_record(trials)
        bar = None if default is None else default.final_value
        return next(one for one in front if bar is None or not _is_worse(space, one, bar))
    depths = _depths(front, space.settings.objective)
    return max(zip(depths, range(len(front)), front, strict=True), key=lambda one: one[:2])[2]


def evidence(space: Space, trials: Sequence[TrialRecord], prefer: Preference) -> dict[str, Any]:
    """What the answer's provenance says of two objectives, and of the choice; empty where there is one."""
    objective = space.settings.objective
    chosen, default = preferred(space, trials, prefer), default_record(trials)
    if objective.also is None or chosen is None:
        return {}
    return {
        "prefer": prefer,
        "preferred": PREFERENCES[prefer],
        "also": objective.also,
        "also_value": second_of(chosen, objective),
        "default_also_value": None if default is None else second_of(default, objective),
        "front": [
            {"trial": one.number, "value": one.value, "also_value": second_of(one, objective)}
            for one in front_of(trials, objective)
        ],
    }


def front_line(space: Space, trials: Sequence[TrialRecord]) -> str | None:
    """The front in one sentence without a full stop; None where there is one objective, or no member."""
    objective = space.settings.objective
    front = front_of(trials, objective)
    if not front:
        return None
    members = ", ".join(f"{one.number} ({one.value:.4g}, {second_of(one, objective):.4g})" for one in front)
    chosen = {prefer: preferred(space, trials, prefer) for prefer in ("cost", "knee")}
    said = ", ".join(f"{prefer} is trial {one.number}" for prefer, one in chosen.items() if one is not None)
    return f"Pareto front of {objective.metric} and {objective.also}: trials {members}; by preference {said}"


def _is_worse(space: Space, record: TrialRecord, bar: float) -> bool:
    assert record.value is not None  # it is a member of the front
    return record.value > bar if space.settings.objective.mode == "min" else record.value < bar


def _depths(front: Sequence[TrialRecord], objective: Objective) -> list[float]:
    """How far each member lies below the line between the front's ends: (1 - x - y) / sqrt(2), where x and y
    are its second and first objective as parts of the way from the front's best to its worst, a cost by its
    logarithm. (The knee as in Das 1999, Structural Optimization 18, pages 107-115: the point of the front
    that is farthest from the hyperplane through the ends.)
    """
    seconds = [second_of(one, objective) for one in front]
    scaled = [math.log(one) if is_cost(objective) and one > 0 else one for one in seconds if one is not None]
    firsts = [one.value for one in front if one.value is not None]
    x, y = _parts(scaled, best=0), _parts(firsts, best=-1)
    return [(1.0 - a - b) / math.sqrt(2.0) for a, b in zip(x, y, strict=True)]


def _parts(values: Sequence[float], best: int) -> list[float]:
    """Each as a part of the way from the best to the worst, which are the ends; of a single one 0."""
    low, high = values[best], values[-1 - best]
    return [0.0 if high == low else (value - low) / (high - low) for value in values]
