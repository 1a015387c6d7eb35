"""What trials keep to, in words and for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.search import TrialRecord, feasible, violation_of
from sweeper.search.records import finite_or_none
from sweeper.space import constraints_of

if TYPE_CHECKING:
    from sweeper.space import Objective, Space

__all__ = ["constraint_cells", "constraint_line", "constraints_tree", "kept_tree", "not_kept"]


def constraint_line(space: Space, trials: Sequence[TrialRecord], best: TrialRecord | None) -> str | None:
    """How the choice went, in one sentence without a full stop; None where there are no constraints, or no
    trial is complete."""
    objective = space.settings.objective
    bounds = constraints_of(objective)
    if not bounds or best is None:
        return None
    complete = [one for one in trials if one.final_value is not None and one.replicate_of is None]
    asked, kept = " and ".join(one.text for one in bounds), len(feasible(complete, objective))
    if not kept:
        return (
            f"none of {len(complete)} complete trials keeps to {asked}: trial {best.number} breaks it least "
            f"({_measured(best, objective)})"
        )
    return f"{kept} of {len(complete)} complete trials keep to {asked}; trial {best.number} has " + _measured(
        best, objective
    )


def not_kept(space: Space, best: TrialRecord) -> bool:
    """Whether the chosen trial breaks a constraint, because all others do as well."""
    return violation_of(best, space.settings.objective) > 0


def constraints_tree(space: Space, best: TrialRecord) -> dict[str, Any]:
    """What the answer's provenance says of them; empty where there are none."""
    objective = space.settings.objective
    if not objective.constraints:
        return {}
    told = {
        one.metric: {"bound": f"{one.sign} {one.bound:.12g}", "value": _value(best, one.metric)}
        for one in constraints_of(objective)
    }
    return {"feasible": not not_kept(space, best), "constraints": told}


def kept_tree(record: TrialRecord, objective: Objective) -> dict[str, Any]:
    """The same of any trial, for programs: ``feasible`` is null before its first evaluation."""
    if not objective.constraints:
        return {}
    return {"feasible": None if record.decisive is None else not violation_of(record, objective)}


def constraint_cells(record: TrialRecord, objective: Objective) -> dict[str, float | bool | None]:
    """One trial's part of it, for files of rows: each bounded metric, and whether all are kept to."""
    if not objective.constraints:
        return {}
    values = {one.metric: _value(record, one.metric) for one in constraints_of(objective)}
    own = {name: value for name, value in values.items() if name != objective.metric}
    return {**own, **kept_tree(record, objective)}


def _measured(record: TrialRecord, objective: Objective) -> str:
    told = []
    for one in constraints_of(objective):
        value = _value(record, one.metric)
        told.append(f"{one.metric} {'not a number' if value is None else f'{value:.4g}'}")
    return ", ".join(told)


def _value(record: TrialRecord, metric: str) -> float | None:
    return finite_or_none(None if record.decisive is None else record.decisive.metrics.get(metric, math.nan))
