"""A sweep at a glance, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.recommend.ranking import best_record
from sweeper.search import TrialRecord

if TYPE_CHECKING:
    from sweeper.spec import Space

__all__ = ["sweep_status"]


def sweep_status(space: Space, trials: Sequence[TrialRecord], state: str) -> dict[str, Any]:
    """What ``sweeper status --json`` prints, as strict JSON: a value that is not finite is null.

    ``{"name", "state", "trials": [{"number", "state", "params", "value", "evaluations", "reason",
    "seconds"}], "best": number}``; an evaluation is ``{"tokens", "step", "seconds", "metrics"}``, and
    ``best`` is null as long as no trial was trained to its end. With ``objective.at: best`` a trial also has
    ``value_tokens``: the training tokens at the evaluation that ``value`` is of.
    """
    best = best_record(space, trials)
    return {
        "name": space.name,
        "state": state,
        "trials": [_trial(one, at=space.settings.objective.at) for one in trials],
        "best": None if best is None else best.number,
    }


def _trial(record: TrialRecord, *, at: str) -> dict[str, Any]:
    tree = record.to_dict()
    judged = {"value_tokens": None if record.decisive is None else record.decisive.tokens}
    return {
        "number": tree["number"],
        "state": tree["state"],
        "params": tree["values"],
        "value": tree["value"],
        **(judged if at == "best" else {}),
        "evaluations": tree["evaluations"],
        "reason": tree["reason"],
        "seconds": tree["seconds"],
    }
