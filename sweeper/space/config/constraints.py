"""What a chosen trial has to keep to: bounds of logged metrics, and by how much an evaluation breaks them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sweeper.space.config.search import Objective

__all__ = ["Constraint", "constraints_of", "parse_bound", "violation"]

_BOUND = re.compile(r"\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """``metric <= bound``, or ``>=``."""

    metric: str
    sign: Literal["<=", ">="]
    bound: float

    @property
    def text(self) -> str:
        """``eval/retention_increase <= 0.1``."""
        return f"{self.metric} {self.sign} {self.bound:.12g}"

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far beyond the bound the metric lies, as a part of the bound (of 1 where that is 0): above 0
        where it is broken, infinite where there is no such number."""
        value = metrics.get(self.metric, math.nan)
        if math.isnan(value):
            return math.inf
        beyond = value - self.bound if self.sign == "<=" else self.bound - value
        return beyond / (abs(self.bound) or 1.0)


@lru_cache
def parse_bound(metric: str, written: str) -> Constraint:
    """The constraint of one metric, as it is written: ``<= 0.1``.

    Raises:
        ValueError: it is no bound.
    """
    found = _BOUND.fullmatch(written)
    if found is None:
        raise ValueError(written)
    bound = float(found[2])
    if not math.isfinite(bound):
        raise ValueError(written)
    return Constraint(metric=metric, sign="<=" if found[1] == "<=" else ">=", bound=bound)


def constraints_of(objective: Objective) -> tuple[Constraint, ...]:
    """Those of a sweep, in the order of the file."""
    return tuple(parse_bound(*one) for one in (objective.constraints or {}).items())


def violation(objective: Objective, metrics: Mapping[str, float]) -> float:
    """The sum of what the metrics of one evaluation exceed the bounds by: 0 where all are kept to."""
    return sum(max(one.excess(metrics), 0.0) for one in constraints_of(objective))
