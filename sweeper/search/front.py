"""The best trial, the second objective, and the Pareto front of both: pure functions of records.

The front is worked out whenever somebody reads it and is kept nowhere: it follows from what the ledger has of
each trial, so that it cannot differ from that, and every trial that ends may change it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.search.records import TrialRecord, TrialState, eligible, finite_or_none, violation_of
from sweeper.space import PEAK_MEMORY
from sweeper.space.metrics import better

if TYPE_CHECKING:
    from sweeper.space import Objective

__all__ = [
    "best_of",
    "devices_of",
    "expected_second",
    "feasible",
    "front_of",
    "is_cost",
    "nondominated",
    "order",
    "ranked",
    "second_of",
]


def best_of(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The first of ``ranked``; None without any."""
    return next(iter(ranked(records, objective)), None)


def ranked(records: Iterable[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """The COMPLETE trials that may be chosen, in their ``order``: none that was trained on a proxy."""
    return order(eligible(records), objective)


def order(records: Iterable[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """The COMPLETE ones by their finite objectives, the best first; of equal ones the best second objective
    where there are two, so that the best is on the front, then the earliest. Those that break constraints
    come after all that keep to them, by how much they do."""
    first, _ = _signs(objective)
    scored = [
        (violation_of(one, objective), first * one.final_value, _badness(one, objective), one.number, one)
        for one in records
        if one.final_value is not None
    ]
    return [one for *_, one in sorted(scored, key=lambda entry: entry[:4])]


def feasible(records: Iterable[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """Those that keep to all constraints, where they are judged; all of them where there are none."""
    return [one for one in records if not violation_of(one, objective)]


def is_cost(objective: Objective) -> bool:
    """Whether the second objective is a cost: a positive number of which a ratio means something, and that a
    trial's beginning tells."""
    return objective.also is not None and not objective.also.startswith("eval/")


def second_of(record: TrialRecord, objective: Objective) -> float | None:
    """The second objective of a trial that was trained to its end, as measured; None of any other, and where
    there is one objective.

    Seconds times devices, GiB, tokens, or the metric at the evaluation that the trial is judged by.
    """
    return _measured(record, objective) if record.state is TrialState.COMPLETE else None


def expected_second(record: TrialRecord, objective: Objective) -> float | None:
    """What ``second_of`` is or would be at the trial's end; None where the trial does not tell.

    Tokens are known when the rows are dealt out, GPU seconds go on as they went, memory is the peak so far,
    or the predicted one. What a metric will come to is not told.
    """
    if record.state is TrialState.COMPLETE or objective.also is None:
        return second_of(record, objective)
    total, seen = record.attributes.get("total_tokens"), _measured(record, objective)
    if objective.also == "tokens":
        return None if total is None else float(total)
    if objective.also == "gpu_seconds" and seen is not None and total is not None:
        return seen * float(total) / record.evaluations[-1].tokens
    if objective.also == "peak_memory":
        return record.attributes.get("predicted_memory_gib") if seen is None else seen
    return None


def front_of(records: Sequence[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """The Pareto front: trials to which no other is as good in both objectives and better in one; by the
    second objective, its best first. Of trials that are equal in both the earliest; empty where there is one
    objective.

    Only a trial that was trained to its end, with two finite objectives, and keeps to all constraints, is a
    member.
    """
    first, _ = _signs(objective)
    scored = [
        (first * one.final_value, _badness(one, objective), one)
        for one in sorted(feasible(eligible(records), objective), key=lambda one: one.number)
        if one.final_value is not None and second_of(one, objective) is not None
    ]
    return [scored[index][2] for index in nondominated([entry[:2] for entry in scored])]


def nondominated(pairs: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (loss, cost) to which no other is as small in both and smaller in one, by rising cost;
    of equal ones the first."""
    found: list[int] = []
    for index in sorted(range(len(pairs)), key=lambda one: (pairs[one][1], pairs[one][0])):
        if not found or pairs[index][0] < pairs[found[-1]][0]:
            found.append(index)
    return found


def _signs(objective: Objective) -> tuple[float, float]:
    """What makes the smaller the better of both objectives."""
    return (
        1.0 if objective.mode == "min" else -1.0,
        -1.0 if objective.also is not None and better(objective.also) == "max" else 1.0,
    )


def _badness(record: TrialRecord, objective: Objective) -> float:
    """The second objective, smaller is better; infinite where it is not known."""
    second = second_of(record, objective)
    return math.inf if second is None else _signs(objective)[1] * second


def _measured(record: TrialRecord, objective: Objective) -> float | None:
    """The second objective as far as the trial has come."""
    if not record.evaluations or objective.also is None:
        return None
    last, value = record.evaluations[-1], math.nan
    if objective.also == "tokens":
        value = float(last.tokens)
    elif objective.also == "gpu_seconds":
        value = last.seconds * devices_of(record.attributes.get("config"))
    elif objective.also == "peak_memory":
        value = max(one.metrics.get(PEAK_MEMORY, -math.inf) for one in record.evaluations)
    elif record.decisive is not None:
        value = record.decisive.metrics.get(objective.also, math.nan)
    return finite_or_none(value)


def devices_of(ran: Any) -> float:
    """GPUs of a trial, by the configuration that the driver noted; its ranks, where they are on the CPU."""
    if ran is None:
        return 1.0
    parallel = ran["parallel"]
    ranks: int = parallel["dp"] * parallel["pp"] * parallel["tp"]
    return ranks * (ran["resources"]["gpus_per_rank"] or 1.0)
