"""What the ledger says about one trial, as plain frozen records.

No database, no Optuna: whoever reads a sweep (live view, status, report, tracking) needs only this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from sweeper.space import violation

if TYPE_CHECKING:
    from sweeper.space import Objective, Values

__all__ = [
    "EVALUATION",
    "Evaluation",
    "TrialRecord",
    "TrialState",
    "as_attribute",
    "begun",
    "decisive_of",
    "eligible",
    "encoded",
    "evaluations_of",
    "is_diverged",
    "own_evaluations",
    "searched",
    "violation_of",
]


EVALUATION = "evaluation/"
"""How the name of an attribute begins that holds an evaluation; the tokens follow."""


class TrialState(str, Enum):
    """Where a trial stands; the names are Optuna's."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    """Trained to its end with a finite objective."""
    PRUNED = "PRUNED"
    """Stopped early by a stopper; its value is the last one reported."""
    FAIL = "FAIL"
    """Diverged, broke, or lost its driver; the record's reason says which."""
    PAUSED = "PAUSED"
    """Its chance to beat the best was small: it keeps its state and may go on. Optuna calls it RUNNING."""
    WAITING = "WAITING"
    """Asked again after its driver died, not yet started."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be reported."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One held-out evaluation of one trial."""

    tokens: int
    """Training tokens seen so far: the axis on which trials are compared."""
    step: int
    """Optimizer steps so far; means nothing between trials."""
    seconds: float
    """Since the trial's start."""
    metrics: Mapping[str, float]
    """Metric name (``eval/loss``) -> value; NaN and infinity are allowed and mean that it diverged."""
    time_s: float | None = None
    """When it was measured, in seconds since the epoch."""

    def to_dict(self) -> dict[str, Any]:
        """As strict JSON: a value that is not finite becomes null."""
        return {
            "tokens": self.tokens,
            "step": self.step,
            "seconds": finite_or_none(self.seconds),
            "metrics": json_tree(self.metrics),
        }


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """Everything that the ledger knows about one trial at the moment of reading."""

    number: int
    state: TrialState
    values: Values
    """The searched values: dimension name -> closed value; only the active dimensions."""
    value: float | None
    """The objective at the evaluation that the trial is judged by; None before the first one."""
    decisive: Evaluation | None = None
    """That evaluation: the last one, or with ``objective.at: best`` the best one so far."""
    evaluations: tuple[Evaluation, ...] = ()
    """In the order of tokens seen."""
    untrained: Evaluation | None = None
    """Of the model before any training, where this trial measured it."""
    reason: str | None = None
    """Why it was stopped, paused or failed."""
    chance: float | None = None
    """Of a paused trial: that it would have beaten the best, when it was paused."""
    to_end: bool = False
    """Whether nothing may pause it again."""
    seconds: float | None = None
    """From start to end; of a running trial, up to its last evaluation."""
    started_s: float | None = None
    """When it was asked for, in seconds since the epoch."""
    ended_s: float | None = None
    """When it ended, in seconds since the epoch."""
    is_default: bool = False
    """Whether these are the rules of thumb, which the sweep has to beat."""
    replicate_of: int | None = None
    """The trial whose values were trained again under another seed; None of a trial that the search asked
    for."""
    seed: int | None = None
    """Of such a run: in the place of ``training.seed``."""
    is_proxy: bool = False
    """Whether it was trained on the proxy (``search.proxy``), so that its values say nothing of their own
    about the real thing."""
    real_of: int | None = None
    """The trial on the proxy whose values this one trained on the real thing."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the driver noted: ``config``, ``ds_config``, ``startup_s``, ``total_tokens``, ``checkpoint``..."""

    @property
    def final_value(self) -> float | None:
        """The finite objective of a trial that was trained to its end; None of any other."""
        return finite_or_none(self.value) if self.state is TrialState.COMPLETE else None

    @property
    def is_searched(self) -> bool:
        """Whether the search asked for it; the others train values again that it had asked for."""
        return self.replicate_of is None and self.real_of is None

    @property
    def same_as(self) -> int | None:
        """The trial whose training this one would have repeated, and whose evaluations it has."""
        return self.attributes.get("same_as")

    @property
    def forked_from(self) -> int | None:
        """The trial from whose state this one went on."""
        fork = self.attributes.get("fork")
        return None if not fork or fork.get("lost") or self.same_as is not None else fork["trial"]

    @property
    def saved_tokens(self) -> int:
        """Training tokens that it took over from another trial, and did not train."""
        return int(self.attributes.get("saved_tokens", 0))

    def to_dict(self) -> dict[str, Any]:
        """As strict JSON: a value that is not finite becomes null."""
        return {
            "number": self.number,
            "state": self.state.value,
            "values": json_tree(self.values),
            "value": finite_or_none(self.value),
            "evaluations": [evaluation.to_dict() for evaluation in self.evaluations],
            "reason": self.reason,
            "seconds": finite_or_none(self.seconds),
            "is_default": self.is_default,
            "attributes": json_tree(self.attributes),
        }


def decisive_of(evaluations: Sequence[Evaluation], objective: Objective) -> Evaluation | None:
    """The evaluation that a trial is judged by; None without any.

    The last one, or with ``at: best`` the earliest of those with the best objective, among those that keep to
    the constraints, or break them least. One that is not finite is never the best; where none is finite it is
    the last one all the same.
    """
    if not evaluations:
        return None
    if objective.at == "end":
        return evaluations[-1]
    sign = 1.0 if objective.mode == "min" else -1.0
    scored = [
        (
            violation(objective, one.metrics),
            sign * one.metrics.get(objective.metric, math.nan),
            one.tokens,
            one,
        )
        for one in evaluations
    ]
    finite = [entry for entry in scored if math.isfinite(entry[1])]
    return min(finite, key=lambda entry: entry[:3])[3] if finite else evaluations[-1]


def violation_of(record: TrialRecord, objective: Objective) -> float:
    """By how much a trial breaks the constraints where it is judged, see ``sweeper.space.violation``;
    infinite before its first evaluation, and 0 where there are none."""
    if not objective.constraints:
        return 0.0
    return math.inf if record.decisive is None else violation(objective, record.decisive.metrics)


def own_evaluations(record: TrialRecord) -> tuple[Evaluation, ...]:
    """Those that the trial made itself: not what it took over from a trial that was the same up to there."""
    if record.same_as is not None:
        return ()
    return tuple(one for one in record.evaluations if one.tokens >= record.saved_tokens)


def searched(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """What the search asked for: without the runs of the same values under other seeds, and without those on
    the real thing where the search is on a proxy."""
    return [record for record in records if record.replicate_of is None and record.real_of is None]


def eligible(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Of which one can be chosen: what the search asked for, or with a proxy what followed on the real
    thing."""
    return [record for record in records if record.replicate_of is None and not record.is_proxy]


def begun(records: Iterable[TrialRecord]) -> int:
    """How many trials the search has started."""
    return sum(record.state is not TrialState.WAITING for record in searched(records))


def finite_or_none(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def json_tree(tree: Any) -> Any:
    """A copy of mappings, sequences and scalars that strict JSON can hold."""
    if isinstance(tree, Mapping):
        return {str(key): json_tree(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [json_tree(value) for value in tree]
    return finite_or_none(tree) if isinstance(tree, float) else tree


def is_diverged(record: TrialRecord, metric: str) -> bool:
    """Whether a failed trial says something about its values, and not about the machine.

    So it does where an evaluation was not finite, or where the driver noted ``diverged: true``.
    """
    if record.state is not TrialState.FAIL:
        return False
    values = (e.metrics[metric] for e in record.evaluations if metric in e.metrics)
    return bool(record.attributes.get("diverged")) or any(not math.isfinite(value) for value in values)


def as_attribute(evaluation: Evaluation) -> tuple[str, dict[str, Any]]:
    """The name and the content under which the ledger keeps an evaluation."""
    return f"{EVALUATION}{evaluation.tokens}", {
        "step": evaluation.step,
        "seconds": evaluation.seconds,
        "time_s": evaluation.time_s,
        "metrics": {name: encoded(value) for name, value in evaluation.metrics.items()},
    }


def encoded(value: float) -> float | str:
    """A number for strict JSON: ``nan``, ``inf`` and ``-inf`` as words, which ``float`` reads back."""
    return float(value) if math.isfinite(value) else str(float(value))


def evaluations_of(attributes: Mapping[str, Any]) -> tuple[Evaluation, ...]:
    """The evaluations among a trial's attributes, in the order of tokens."""
    found = (
        Evaluation(
            tokens=int(key.removeprefix(EVALUATION)),
            step=content["step"],
            seconds=content["seconds"],
            time_s=content.get("time_s"),
            metrics={name: float(value) for name, value in content["metrics"].items()},
        )
        for key, content in attributes.items()
        if key.startswith(EVALUATION)
    )
    return tuple(sorted(found, key=lambda evaluation: evaluation.tokens))
