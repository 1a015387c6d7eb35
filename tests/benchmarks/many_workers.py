"""How much of their time many parallel workers wait for the driver.

    python tests/benchmarks/many_workers.py                                  # 200 workers, 1,000 trials
    python tests/benchmarks/many_workers.py --workers 200 --trials 3000 --trial-s 300

The product's own driver (recorder, ledger in SQLite, queue, `sampler: auto`, `stopper: auto`) serves
simulated trainers; only Ray is left out. Training takes simulated seconds. What the driver does takes the
seconds that it takes here (CPU seconds with --cpu, where others use the machine, too), one thing after
another, and a worker that has something to tell waits until it is answered. Trials take --trial-s in the
mean, longer and shorter by a log-normal factor of 1.5, with ten evaluations each. All workers ask at once at
the beginning, which is in the figure. Prints the share of time that workers waited, and what a new trial and
an evaluation cost the driver by the number of trials that it knew; exits with 1 where the share is 5 % or
more.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.search import Ledger, make_stopper
from sweeper.space import Config, Facts, Space, SweepFolder, load_space
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.training import Prepared, Progress

LIMIT = 0.05
EVALUATIONS, ROWS = 10, 2000
TOKENS = 100 * ROWS
SPACE = """
name: many-workers
model_path: m
data_path: d.jsonl
objective: {evaluations: 10}
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

    def serve(self, asked_s: float, work: Callable[[], Any]) -> tuple[Any, float]:
        """What the work gives, and how many seconds it took."""
        began = self.timer()
        found = work()
        took_s = self.timer() - began
        self.free_s = max(asked_s, self.free_s) + took_s
        self.waited_s += self.free_s - asked_s
        return found, took_s


@dataclass
class Costs:
    """What the driver's work took, by the number of trials that it knew."""

    asks: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[tuple[int, float]] = field(default_factory=list)


class Trainers:
    """Curves of simulated training, and how long it takes."""

    def __init__(self, trial_s: float) -> None:
        self._trial_s = trial_s
        self._done: dict[int, int] = {}
        """Trial -> evaluations that were made."""

    def step_s(self, number: int) -> float:
        """Seconds of a trial to its next evaluation."""
        factor = math.exp(math.log(1.5) * np.random.default_rng(number).standard_normal())
        return self._trial_s * factor / EVALUATIONS

    def outcome(self, number: int, config: Config) -> Outcome:
        """The next evaluation."""
        is_first = number not in self._done
        done = self._done[number] = self._done.get(number, 0) + 1
        lr = math.log10(config.training.lr)
        end = 1.0 + 0.05 * (lr + 3.5) ** 2 + 0.02 * np.random.default_rng(number).standard_normal()
        loss = float(end + 2.0 / (done + 1) + (10.0 if lr > -2.2 else 0.0))
        progress = Progress(
            step=done * 10,
            tokens=TOKENS * done // EVALUATIONS,
            seconds=done * self.step_s(number),
            metrics={"eval/loss": loss},
            done=done == EVALUATIONS,
        )
        prepared = Prepared(total_steps=10 * EVALUATIONS, total_tokens=TOKENS, ds_config={})
        return Outcome(number=number, prepared=prepared if is_first else None, progress=progress)


def simulate(recorder: Recorder, driver: Driver, trainers: Trainers, workers: int, costs: Costs) -> float:
    """The seconds that all workers have trained."""
    trained_s, order = 0.0, itertools.count()
    events: list[tuple[float, int, int | None, Config | None]] = []  # when, order, trial, its configuration
    begun: set[int] = set()
    for _ in range(workers):
        heapq.heappush(events, (0.0, next(order), None, None))
    while events:
        now_s, _, number, config = heapq.heappop(events)
        if number is None or config is None:
            found, took_s = driver.serve(now_s, recorder.next_job)
            costs.asks.append((len(begun), took_s))
            if found is None:
                continue
            number, job = found
            begun.add(number)
            recorder.started(number)
            config = job.config
        else:
            outcome = trainers.outcome(number, config)
            goes_on, took_s = driver.serve(now_s, lambda told=outcome: recorder.record(told))
            costs.evaluations.append((len(begun), took_s))
            if goes_on and number in recorder._pausing:  # its state is written at once
                pause = Outcome(number=number, paused=True)
                goes_on, _ = driver.serve(driver.free_s, lambda told=pause: recorder.record(told))
            if not goes_on:
                heapq.heappush(events, (driver.free_s, next(order), None, None))
                continue
        trained_s += trainers.step_s(number)
        heapq.heappush(events, (driver.free_s + trainers.step_s(number), next(order), number, config))
    return trained_s


def space_of(folder: Path, trials: int, sampler: str) -> Space:
    file = folder / "space.yaml"
    file.write_text(SPACE)
    facts = Facts(train_rows=ROWS, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
    overrides = [f"search.trials={trials}", f"search.sampler={sampler}"]
    return load_space(file, overrides=overrides, gather=lambda settings: facts)


def shown(name: str, costs: list[tuple[int, float]]) -> str:
    """Medians and the slowest, by the number of trials that were known."""
    bins: dict[int, list[float]] = {}
    for known, took_s in costs:
        bins.setdefault(2 ** int(math.log2(max(known, 1))), []).append(1000 * took_s)
    parts = [
        f"from {known}: {statistics.median(own):.0f} (at most {max(own):.0f})"
        for known, own in sorted(bins.items())
    ]
    return f"{name}, ms, trials known " + ", ".join(parts)


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--trial-s", type=float, default=600.0, help="seconds of a whole trial")
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds of the driver")
    chosen = parser.parse_args()
    costs, driver = Costs(), Driver(time.process_time if chosen.cpu else time.perf_counter)
    with tempfile.TemporaryDirectory() as root:
        space = space_of(Path(root), chosen.trials, chosen.sampler)
        folder = SweepFolder(Path(root) / "sweep")
        folder.root.mkdir()
        ledger = Ledger.create(folder.study_url, space)
        recorder = Recorder(space, ledger, folder, make_stopper(space), [], data_dir=Path(root))
        trained_s = simulate(recorder, driver, Trainers(chosen.trial_s), chosen.workers, costs)
    print(shown("a new trial", costs.asks))
    print(shown("an evaluation", costs.evaluations))
    all_s = driver.waited_s + trained_s
    share = driver.waited_s / all_s
    print(
        f"{chosen.workers} workers, {chosen.trials} trials of {chosen.trial_s:.0f} s: waited {share:.1%} of "
        f"their time, {driver.waited_s / chosen.workers:.0f} of {all_s / chosen.workers:.0f} s each"
    )
    return int(share >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
