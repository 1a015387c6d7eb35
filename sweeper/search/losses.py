"""A trial's evaluations as losses, for stoppers and for the search of our own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from sweeper.search.records import Evaluation, TrialRecord
from sweeper.space import Constraint, constraints_of

if TYPE_CHECKING:
    from sweeper.space import Objective

__all__ = ["Curves"]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Reads learning curves of one metric as losses: smaller is better, infinity is the worst. So is what an
    evaluation has that breaks a constraint: it cannot be chosen."""

    metric: str
    mode: Literal["min", "max"]
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def of(cls, objective: Objective) -> Curves:
        """Those of a sweep's objective."""
        return cls(metric=objective.metric, mode=objective.mode, constraints=constraints_of(objective))

    @property
    def unbound(self) -> Curves:
        """The same whatever breaks a constraint."""
        return replace(self, constraints=())

    def loss(self, value: float | None) -> float:
        """The value as a loss: negated under ``max``, infinite where it is missing or not finite."""
        if value is None or not math.isfinite(value):
            return math.inf
        return value if self.mode == "min" else -value

    def value(self, loss: float) -> float:
        """The inverse of ``loss``, for sentences."""
        return loss if self.mode == "min" else -loss

    def points(self, record: TrialRecord) -> list[tuple[int, float]]:
        """(tokens, loss) of each evaluation, in the order of tokens."""
        return sorted((e.tokens, self._loss_of(e)) for e in record.evaluations)

    def _loss_of(self, evaluation: Evaluation) -> float:
        is_kept = all(one.excess(evaluation.metrics) <= 0 for one in self.constraints)
        return self.loss(evaluation.metrics.get(self.metric)) if is_kept else math.inf

    def loss_at(self, record: TrialRecord, tokens: float, untrained: float | None) -> float | None:
        """The loss after ``tokens``, linear between evaluations; None where the curve does not reach.

        Before the first evaluation the curve starts at (0, untrained), where that is known. Between an
        evaluation that is not finite and any other the loss is infinite.
        """
        points = self.points(record)
        if untrained is not None and points and points[0][0] > 0:
            points.insert(0, (0, self.loss(untrained)))
        for index, (right, right_loss) in enumerate(points):
            if right == tokens:
                return right_loss
            if right > tokens:
                if index == 0:
                    return None
                left, left_loss = points[index - 1]
                share = (tokens - left) / (right - left)
                # Written as a difference this would be inf - inf = nan beside a diverged evaluation.
                return (1 - share) * left_loss + share * right_loss
        return None

    def best_loss(self, record: TrialRecord) -> float:
        """The smallest loss of all evaluations."""
        return min((loss for _, loss in self.points(record)), default=math.inf)
