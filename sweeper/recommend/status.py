"""A sweep at a glance, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.recommend.certainty import confirmation_tree, sure_tree
from sweeper.recommend.constraints import kept_tree
from sweeper.recommend.ends import edge_trees
from sweeper.recommend.ranking import best_record
from sweeper.recommend.transfer import transfer_tree
from sweeper.search import TrialRecord, TrialState, front_of, second_of
from sweeper.space import count_trials
from sweeper.training import read_moved

if TYPE_CHECKING:
    from sweeper.space import Objective, Space, SweepFolder

__all__ = ["failure_lines", "running_lines", "sweep_status"]

_MOST_REASONS = 3


def sweep_status(space: Space, trials: Sequence[TrialRecord], state: str) -> dict[str, Any]:
    """What ``sweeper status --json`` prints, as strict JSON: a value that is not finite is null.

    ``{"name", "state", "wanted", "trials": [{"number", "state", "params", "value", "evaluations", "reason",
    "seconds", "same_as", "forked_from", "saved_tokens"}], "best": number, "edges": [...], "saved_tokens"}``;
    ``wanted`` is how many trials the sweep is to have in all, an evaluation is ``{"tokens", "step",
    "seconds", "metrics"}``, ``best`` is null as long as no trial was trained to its end, and ``edges`` are
    the ends of ranges at which the best trial lies, see ``edge_trees``. ``saved_tokens`` training tokens were
    taken over from an earlier trial, all of them where it is ``same_as`` that one, the first ones where it
    was ``forked_from`` it; both are numbers of trials, or null. With ``objective.at: best`` a trial also has
    ``value_tokens``: the training tokens at the evaluation that ``value`` is of. With two objectives there
    are ``objectives``, the names of both, and ``pareto``, the numbers of the front's trials by the second
    one, and a trial has ``also``, its second objective (null until it is complete), and ``pareto``. With
    constraints a trial has ``feasible``, null before its first evaluation.

    ``sure`` is ``[{"trial", "chance"}]``: that a trial's configuration is the best of those that are
    complete, the most likely first; empty where that cannot be told, and where a confirmation has decided.
    With ``search.confirm`` there are also ``runs``, trials with ``replicate_of`` and ``seed``, and
    ``confirmation``, see ``confirmation_tree``. With ``search.proxy`` a trial also has ``phase``, proxy or
    real, and ``real_of``, the trial on the proxy whose values it trains on the real thing, and there is
    ``proxy``, see ``transfer_tree``.
    """
    best, objective = best_record(space, trials), space.settings.objective
    front = [one.number for one in front_of(trials, objective)]
    both = {"objectives": [objective.metric, objective.also], "pareto": front}
    return {
        "name": space.name,
        "state": state,
        "wanted": count_trials(space),
        "trials": [
            _trial(one, objective, is_pareto=one.number in front)
            | _phase(space, one)
            | kept_tree(one, objective)
            for one in trials
            if one.replicate_of is None
        ],
        "best": None if best is None else best.number,
        "sure": sure_tree(space, trials),
        "edges": edge_trees(space, trials),
        "saved_tokens": sum(one.saved_tokens for one in trials),
        **({} if (tree := transfer_tree(space, trials)) is None else {"proxy": tree}),
        **(both if objective.also else {}),
        **({} if space.settings.search.confirm.top is None else _confirmation(space, trials)),
    }


def _phase(space: Space, record: TrialRecord) -> dict[str, Any]:
    if not space.settings.search.proxy.is_wanted:
        return {}
    return {"phase": "proxy" if record.is_proxy else "real", "real_of": record.real_of}


def _confirmation(space: Space, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    runs = [one for one in trials if one.replicate_of is not None]
    told = [_trial(one, space.settings.objective, is_pareto=False) for one in runs]
    return {
        "runs": [
            {**tree, "replicate_of": one.replicate_of, "seed": one.seed}
            for tree, one in zip(told, runs, strict=True)
        ],
        "confirmation": confirmation_tree(space, trials),
    }


def failure_lines(trials: Sequence[TrialRecord]) -> list[str]:
    """Why trials failed: the commonest reasons, each with the numbers of its trials."""
    numbers: dict[str, list[int]] = {}
    for record in trials:
        if record.state is TrialState.FAIL:
            numbers.setdefault(record.reason or "no reason was noted", []).append(record.number)
    ranked = sorted(numbers.items(), key=lambda one: -len(one[1]))
    lines = [f"failed, trial {', '.join(map(str, found))}: {why}" for why, found in ranked[:_MOST_REASONS]]
    more = len(ranked) - _MOST_REASONS
    return [*lines, *([f"and {more} more reasons, in the report"] if more > 0 else [])]


def running_lines(trials: Sequence[TrialRecord], folder: SweepFolder) -> list[str]:
    """How far each running trial is, by what it says itself between its evaluations."""
    lines = []
    for record in trials:
        moved = read_moved(folder.trial_progress(record.number))
        if record.state is not TrialState.RUNNING or moved is None:
            continue
        if total := moved.total_tokens or record.attributes.get("total_tokens"):
            fraction = moved.tokens / total
            lines.append(f"trial {record.number} at {fraction:.0%}, {moved.tokens_per_s:,.0f} tokens/s")
    return lines


def _trial(record: TrialRecord, objective: Objective, *, is_pareto: bool) -> dict[str, Any]:
    tree = record.to_dict()
    judged = {"value_tokens": None if record.decisive is None else record.decisive.tokens}
    return {
        "number": tree["number"],
        "state": tree["state"],
        "params": tree["values"],
        "value": tree["value"],
        **(judged if objective.at == "best" else {}),
        **({"also": second_of(record, objective), "pareto": is_pareto} if objective.also else {}),
        "evaluations": tree["evaluations"],
        "reason": tree["reason"],
        "seconds": tree["seconds"],
        "same_as": record.same_as,
        "forked_from": record.forked_from,
        "saved_tokens": record.saved_tokens,
    }
