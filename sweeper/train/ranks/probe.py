"""A few steady optimizer steps of one configuration, timed, and the memory that they took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from sweeper.train.feed import EvaluationFeed, TrainingFeed
from sweeper.train.memory import peak_memory_gib
from sweeper.train.parallel.executor import Executor
from sweeper.train.ranks.probed import Probed, StepTime

__all__ = ["MOST_STEPS", "PassClock", "Probe"]

WARM_UP_STEPS, LEAST_STEPS, MOST_STEPS = 1, 2, 65
"""The first optimizer step is not measured: kernels are chosen in it, and optimizer states are made. Then at
least so many are; the feed of a probe has the most of both together, and no more."""
MEASURE_S = 2.0
"""After so long no further step is begun, once there are LEAST_STEPS."""


@dataclass
class PassClock:
    """Told when a forward pass gets its rows; waits for the device, which only a probe may."""

    ticks: list[float] = field(default_factory=list)

    def tick(self) -> None:
        get_accelerator().synchronize()
        self.ticks.append(time.perf_counter())


class Probe:
    """The first steps of a feed whose passes tell the clock.

    Every rank of the trial calls it; each returns the same but its own times.
    """

    def __init__(
        self,
        executor: Executor,
        feed: TrainingFeed,
        evaluation: EvaluationFeed,
        clock: PassClock,
        *,
        called_s: float,
        idle_gib: float,
    ) -> None:
        self._executor, self._feed, self._evaluation, self._clock = executor, feed, evaluation, clock
        self._startup_s, self._idle_gib = time.perf_counter() - called_s, idle_gib

    def measure(self) -> Probed:
        """Train some steps, of which the first warm up, and evaluate once."""
        warm = [self._timed(step) for step in range(WARM_UP_STEPS)]
        steps: list[StepTime] = []
        began = time.perf_counter()
        for step in range(WARM_UP_STEPS, self._feed.steps):
            if len(steps) >= LEAST_STEPS and _highest(time.perf_counter() - began) > MEASURE_S:
                break
            steps.append(self._timed(step))
        began = time.perf_counter()
        self._executor.evaluate(self._evaluation)
        evaluated_s = time.perf_counter() - began
        idle, peak = _highest(self._idle_gib), _highest(peak_memory_gib())
        return Probed(
            steps=tuple(steps or warm),
            passes=self._feed.largest_passes(WARM_UP_STEPS + len(steps)),
            held_out=self._evaluation.largest_pass(),
            evaluated_tokens_per_s=self._evaluation.tokens / evaluated_s,
            startup_s=self._startup_s,
            idle_gib=idle,
            peak_gib=peak,
        )

    def _timed(self, step: int) -> StepTime:
        clock, feed = self._clock, self._feed
        clock.ticks.clear()
        began = time.perf_counter()
        self._executor.optimizer_step(step)
        get_accelerator().synchronize()
        ended = time.perf_counter()
        ticks = [*clock.ticks, ended]
        passes = tuple(later - earlier for earlier, later in pairwise(ticks))
        before = int(feed.tokens_after[step - 1]) if step else 0
        return StepTime(
            tokens=int(feed.tokens_after[step]) - before,
            seconds=ended - began,
            passes_s=passes,
        )


def _highest(value: float) -> float:
    """The highest of all ranks."""
    if dist.get_world_size() == 1:
        return value
    told = torch.tensor([value], dtype=torch.double, device=get_accelerator().current_device_name())
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return float(told.item())
