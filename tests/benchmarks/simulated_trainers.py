"""Trainers that take simulated seconds, and the product's own driver that serves them."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.space import Config, Facts, Space, load_space
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.training import Prepared, Progress

__all__ = ["SPACE", "Driver", "Trainers", "simulate", "space_of"]

ROWS = 2000
TOKENS = 100 * ROWS
SPACE = """
name: ten-thousand
model_path: m
data_path: d.jsonl
search: {history: false}
training:
  lr: {log_uniform: [1.0e-6, 1.0e-2]}
  scheduler: [constant, linear, cosine]
  weight_decay: {uniform: [0.0, 0.2]}
  warmup_ratio: {uniform: [0.0, 0.2]}
  epochs: [1, 2, 3]
"""


@dataclass
class Driver:
    """One thing after another, in simulated time; how long each takes is measured."""

    timer: Callable[[], float]
    free_s: float = 0.0
    waited_s: float = 0.0
    parts: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    """By what was done: how many trials had begun, and the seconds that it took."""
    begun: int = 0

    def serve(self, asked_s: float, part: str, work: Callable[[], Any]) -> Any:
        began = self.timer()
        found = work()
        took_s = self.timer() - began
        self.parts[part].append((self.begun, took_s))
        self.free_s = max(asked_s, self.free_s) + took_s
        self.waited_s += self.free_s - asked_s
        return found

    def ms_per_trial(self, part: str, first: int, last: int) -> float:
        """Of all that was done while so many trials had begun."""
        took_s = sum(took for begun, took in self.parts[part] if first <= begun < last)
        return 1000 * took_s / (last - first)


class Trainers:
    """Curves of simulated training, and how long it takes."""

    def __init__(self, trial_s: float, evaluations: int) -> None:
        self._trial_s, self.evaluations = trial_s, evaluations
        self.done: Counter[int] = Counter()
        """Trial -> evaluations that were made."""

    def step_s(self, number: int) -> float:
        """Seconds of a trial to its next evaluation."""
        factor = math.exp(math.log(1.5) * np.random.default_rng(number).standard_normal())
        return self._trial_s * factor / self.evaluations

    def outcome(self, number: int, config: Config) -> Outcome:
        """The next evaluation."""
        is_first = number not in self.done
        self.done[number] += 1
        done = self.done[number]
        lr = math.log10(config.training.lr)
        end = 1.0 + 0.05 * (lr + 3.5) ** 2 + 0.02 * np.random.default_rng(number).standard_normal()
        loss = float(end + 2.0 / (done + 1) + (10.0 if lr > -2.2 else 0.0))
        progress = Progress(
            step=done * 10,
            tokens=TOKENS * done // self.evaluations,
            seconds=done * self.step_s(number),
            metrics={"eval/loss": loss, "eval/perplexity": math.exp(min(loss, 9.0))},
            done=done == self.evaluations,
        )
        prepared = Prepared(total_steps=10 * self.evaluations, total_tokens=TOKENS, ds_config={})
        return Outcome(number=number, prepared=prepared if is_first else None, progress=progress)


def simulate(recorder: Recorder, driver: Driver, trainers: Trainers, workers: int) -> float:
    """The seconds that all workers have trained."""
    trained_s, order, begun, before = 0.0, itertools.count(), set[int](), driver.begun
    events: list[tuple[float, int, int | None, Config | None]] = []  # when, order, trial, its configuration
    for _ in range(workers):
        heapq.heappush(events, (0.0, next(order), None, None))
    while events:
        now_s, _, number, config = heapq.heappop(events)
        if number is None or config is None:
            found = driver.serve(now_s, "ask", recorder.next_job)
            if found is None:
                continue
            number, job = found
            begun.add(number)
            driver.begun = before + len(begun)
            recorder.started(number)
            config = job.config
        else:
            outcome = trainers.outcome(number, config)
            is_last = outcome.progress is None or outcome.progress.done
            part = "last report and end" if is_last else "report"
            goes_on = driver.serve(now_s, part, lambda told=outcome: recorder.record(told))
            if goes_on and number in recorder._pausing:  # its state is written at once
                pause = Outcome(number=number, paused=True)
                goes_on = driver.serve(driver.free_s, "pause", lambda told=pause: recorder.record(told))
            if not goes_on:
                heapq.heappush(events, (driver.free_s, next(order), None, None))
                continue
        trained_s += trainers.step_s(number)
        heapq.heappush(events, (driver.free_s + trainers.step_s(number), next(order), number, config))
    return trained_s


def space_of(folder: Path, overrides: list[str], text: str = SPACE) -> Space:
    file = folder / "space.yaml"
    file.write_text(text)
    facts = Facts(train_rows=ROWS, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
    return load_space(file, overrides=overrides, gather=lambda settings: facts)
