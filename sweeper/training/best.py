"""The best evaluation of a run so far: ``objective.at: best`` judges a trial by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweeper.space import Objective, violation

__all__ = ["BestEvaluation", "BestSoFar"]


@dataclass(frozen=True, kw_only=True)
class BestEvaluation:
    """One evaluation with a finite objective."""

    step: int
    """Optimizer steps done."""
    tokens: int
    """Training tokens seen."""
    metrics: Mapping[str, float]


class BestSoFar:
    """The earliest of the evaluations with the best objective, among those that keep to the constraints or
    break them least; one that is no number is never it."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._metric, self._sign = objective.metric, 1.0 if objective.mode == "min" else -1.0
        self.evaluation: BestEvaluation | None = None

    def take(self, evaluation: BestEvaluation) -> None:
        """The next evaluation, by tokens; that of the untrained model is none of the run's."""
        if self._badness(evaluation) < self._badness(self.evaluation):
            self.evaluation = evaluation

    def _badness(self, evaluation: BestEvaluation | None) -> tuple[float, float]:
        value = math.nan if evaluation is None else evaluation.metrics.get(self._metric, math.nan)
        if evaluation is None or not math.isfinite(value):
            return math.inf, math.inf
        return violation(self._objective, evaluation.metrics), self._sign * value
