"""Workers that train candidates of a table, one evaluation at a time, as a method tells them."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from search_tables import Task


class Method(Protocol):
    """A way to search."""

    def next(self, sweep: Sweep) -> int | None:
        """The candidate to start, or to go on with; None where there is none for now."""

    def goes_on(self, sweep: Sweep, candidate: int) -> bool:
        """Whether a candidate trains on after its newest evaluation; what does not go on may be asked
        again."""


@dataclass
class Sweep:
    """What has been trained so far. Cost is counted in full runs."""

    task: Task
    budget: float
    """In full runs."""
    target: float = -math.inf
    """A loss at which the sweep ends."""
    workers: int = 1
    evaluations: int = 0
    best: float = math.inf
    seen: dict[int, int] = field(default_factory=dict)
    """Candidate -> how many evaluations were made, in the order in which they were started."""
    running: set[int] = field(default_factory=set)
    history: list[tuple[float, float]] = field(default_factory=list)
    """(cost, best loss) at each improvement."""
    best_after: dict[int, int] = field(default_factory=dict)
    """Candidate -> how many had been started when its best loss was measured."""
    reached: float = math.inf
    """The cost at which the target was reached."""

    @property
    def cost(self) -> float:
        return self.evaluations / self.task.run_evaluations

    @property
    def is_over(self) -> bool:
        return self.cost >= self.budget or self.best <= self.target

    def curve(self, candidate: int) -> np.ndarray:
        """Its losses so far."""
        return self.task.curves[candidate][: self.seen.get(candidate, 0)]

    def is_done(self, candidate: int) -> bool:
        """Trained to its end, or diverged."""
        curve = self.curve(candidate)
        return len(curve) > 0 and (
            len(curve) == len(self.task.curves[candidate]) or not math.isfinite(curve[-1])
        )

    def run(self, method: Method) -> Sweep:
        """Until the budget is spent, the target reached, or nothing is left."""
        at: list[tuple[int, int]] = []  # (when its next evaluation is made, candidate)
        now = 0
        while True:
            while len(self.running) < self.workers and not self.is_over:
                candidate = method.next(self)
                if candidate is None:
                    break
                self.seen.setdefault(candidate, 0)
                self.running.add(candidate)
                heapq.heappush(at, (now + 1, candidate))
            if not at or self.is_over:
                return self
            now, candidate = heapq.heappop(at)
            self._evaluate(candidate)
            if not self.is_done(candidate) and method.goes_on(self, candidate):
                heapq.heappush(at, (now + 1, candidate))
            else:
                self.running.discard(candidate)

    def regret(self, budget: float) -> float:
        """Of the best loss seen within a budget."""
        within = [loss for cost, loss in self.history if cost <= budget + 1e-9]
        return (within[-1] if within else math.inf) - self.task.best

    def _evaluate(self, candidate: int) -> None:
        self.seen[candidate] += 1
        self.evaluations += 1
        curve = self.curve(candidate)
        if curve[-1] <= curve[:-1].min(initial=math.inf):
            self.best_after[candidate] = len(self.seen)
        if curve[-1] < self.best:
            self.best = float(curve[-1])
            self.history.append((self.cost, self.best))
            if self.best <= self.target:
                self.reached = self.cost
