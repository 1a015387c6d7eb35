"""One value of one metric, and where on the axis it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeper.search import Evaluation
    from sweeper.space import Objective

__all__ = ["MetricPoint", "Points", "evaluation_points", "judged_by", "second_by", "training_points"]


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """What is written to MLflow as one row of a metric's history."""

    name: str
    """``eval/loss``, ``train/lr``, ..."""
    value: float
    step: int
    """Training tokens seen: the common axis of all trials."""
    time_s: float
    """Seconds since the epoch."""


Points = Sequence[MetricPoint] | Callable[[], Sequence[MetricPoint]]
"""Points, or what reads them if they are needed."""


def judged_by(objective: Objective) -> str:
    """The metric that tells in MLflow which trial is better: its newest point is the trial's value.

    The objective's own, whose newest point is the last evaluation's; with ``at: best`` another, ``best/loss``
    for ``eval/loss``, which stands once for the whole trial.
    """
    metric = objective.metric
    return metric if objective.at == "end" else f"best/{metric.removeprefix('eval/')}"


def second_by(objective: Objective) -> str | None:
    """The metric in MLflow that has a trial's second objective, once for the whole trial, such as
    ``cost/gpu_seconds``; None where there is one objective, or the second one's own history ends with it."""
    also = objective.also
    if also is None or (also.startswith("eval/") and objective.at == "end"):
        return None
    if also.startswith("eval/"):
        return f"best/{also.removeprefix('eval/')}"
    return "cost/peak_memory_gib" if also == "peak_memory" else f"cost/{also}"


def evaluation_points(evaluation: Evaluation, *, trial_started_s: float) -> list[MetricPoint]:
    """The points of one held-out evaluation.

    ``trial_started_s``, in seconds since the epoch, places an evaluation whose own moment was not kept.
    """
    time_s = trial_started_s + evaluation.seconds if evaluation.time_s is None else evaluation.time_s
    return training_points(evaluation.metrics, step=evaluation.step, tokens=evaluation.tokens, time_s=time_s)


def training_points(
    metrics: Mapping[str, float], *, step: int, tokens: int, time_s: float
) -> list[MetricPoint]:
    """The points of one moment of training, with the optimizer step beside them as ``train/step``."""
    values = {**metrics, "train/step": float(step)}
    return [MetricPoint(name=name, value=value, step=tokens, time_s=time_s) for name, value in values.items()]
