"""A sweep at a glance, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.recommend.certainty import confirmation_tree, sure_tree
from sweeper.recommend.ranking import best_record
from sweeper.search import TrialRecord, TrialState, searched
from sweeper.train import read_moved

if TYPE_CHECKING:
    from sweeper.space import Space, SweepFolder

__all__ = ["running_lines", "sweep_status"]


def sweep_status(space: Space, trials: Sequence[TrialRecord], state: str) -> dict[str, Any]:
    """What ``sweeper status --json`` prints, as strict JSON: a value that is not finite is null.

    ``{"name", "state", "wanted", "trials": [{"number", "state", "params", "value", "evaluations", "reason",
    "seconds"}], "best": number}``; ``wanted`` is how many trials the sweep is to have in all, an evaluation
    is ``{"tokens", "step", "seconds", "metrics"}``, and ``best`` is null as long as no trial was trained to
    its end. With ``objective.at: best`` a trial also has ``value_tokens``: the training tokens at the
    evaluation that ``value`` is of.

    ``sure`` is ``[{"trial", "chance"}]``: that a trial's configuration is the best of those that are
    complete, the most likely first; empty where that cannot be told, and where a confirmation has decided.
    With ``search.confirm`` there are also ``runs``, trials with ``replicate_of`` and ``seed``, and
    ``confirmation``, see ``confirmation_tree``.
    """
    best = best_record(space, trials)
    return {
        "name": space.name,
        "state": state,
        "wanted": space.settings.search.trials,
        "trials": [_trial(one, at=space.settings.objective.at) for one in searched(trials)],
        "best": None if best is None else best.number,
        "sure": sure_tree(space, trials),
        **({} if space.settings.search.confirm.top is None else _confirmation(space, trials)),
    }


def _confirmation(space: Space, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    runs = [one for one in trials if one.replicate_of is not None]
    at = space.settings.objective.at
    return {
        "runs": [{**_trial(one, at=at), "replicate_of": one.replicate_of, "seed": one.seed} for one in runs],
        "confirmation": confirmation_tree(space, trials),
    }


def running_lines(trials: Sequence[TrialRecord], folder: SweepFolder) -> list[str]:
    """How far each running trial is, by what it says itself between its evaluations."""
    lines = []
    for record in trials:
        moved = read_moved(folder.trial_progress(record.number))
        total = record.attributes.get("total_tokens")
        if record.state is TrialState.RUNNING and moved is not None and total:
            fraction = moved.tokens / total
            lines.append(f"trial {record.number} at {fraction:.0%}, {moved.tokens_per_s:,.0f} tokens/s")
    return lines


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
