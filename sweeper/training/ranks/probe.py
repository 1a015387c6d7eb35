"""A few steady optimizer steps of one configuration, timed, and the memory that they took."""

from __future__ import annotations

import time
from itertools import pairwise

import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from sweeper.training.engine import Probed, StepTime
from sweeper.training.feed import EvaluationFeed, TrainingFeed
from sweeper.training.memory import peak_memory_gib
from sweeper.training.parallel.executor import Executor

__all__ = ["MOST_STEPS", "measure"]

WARM_UP_STEPS, LEAST_STEPS, MOST_STEPS = 1, 2, 65
"""The first optimizer step is not measured: kernels are chosen in it, and optimizer states are made. Then at
least so many are; the feed of a probe has the most of both together, and no more."""
MEASURE_S = 2.0
"""After so long no further step is begun, once there are LEAST_STEPS."""


def measure(
    executor: Executor, feed: TrainingFeed, evaluation: EvaluationFeed, *, startup_s: float, idle_gib: float
) -> Probed:
    """Train the first steps of a feed, of which some warm up, and evaluate once.

    Every rank of the trial calls it; each returns the same but its own times.
    """
    warm = [_timed(executor, feed, step) for step in range(WARM_UP_STEPS)]
    steps: list[StepTime] = []
    began = time.perf_counter()
    for step in range(WARM_UP_STEPS, feed.steps):
        if len(steps) >= LEAST_STEPS and _highest(time.perf_counter() - began) > MEASURE_S:
            break
        steps.append(_timed(executor, feed, step))
    began = time.perf_counter()
    executor.evaluate(evaluation)
    evaluated_s = time.perf_counter() - began
    idle, peak = _highest(idle_gib), _highest(peak_memory_gib())
    return Probed(
        steps=tuple(steps or warm),
        passes=feed.largest_passes(WARM_UP_STEPS + len(steps)),
        held_out=evaluation.largest_pass(),
        evaluated_tokens_per_s=evaluation.tokens / evaluated_s,
        startup_s=startup_s,
        idle_gib=idle,
        peak_gib=peak,
    )


def _timed(executor: Executor, feed: TrainingFeed, step: int) -> StepTime:
    """One step and each of its passes, whose beginnings wait for the device, which only a probe may."""
    accelerator = get_accelerator()
    ticks: list[float] = []

    def tick() -> None:
        accelerator.synchronize()
        ticks.append(time.perf_counter())

    feed.on_pass = tick
    began = time.perf_counter()
    executor.optimizer_step(step)
    tick()
    before = int(feed.tokens_after[step - 1]) if step else 0
    return StepTime(
        tokens=int(feed.tokens_after[step]) - before,
        seconds=ticks[-1] - began,
        passes_s=tuple(later - earlier for earlier, later in pairwise(ticks)),
    )


def _highest(value: float) -> float:
    """Of all ranks."""
    if dist.get_world_size() == 1:
        return value
    told = torch.tensor([value], dtype=torch.double, device=get_accelerator().current_device_name())
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return float(told.item())
