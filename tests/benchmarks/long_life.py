"""Many trials in one warm worker: memory and pace stay as they were, and the next trial starts at once.

    python tests/benchmarks/long_life.py                                  # the packaged model, 50 trials each
    python tests/benchmarks/long_life.py --model PATH --trials 4 --zero-stage 2

PATH is a model's folder or a .gguf file. Prints, for each ZeRO stage: the memory that the process holds
after the second and after the last trial; the seconds of the first trial, the median of the ten after it and
of the last ten, and the slowest; how long a trial took from the last one's end to its first optimizer step.
Exits with 1 when memory or the median grew by more than a tenth, or the median start took more than 2 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeper.data import prepare
from sweeper.quickstart import DATA_FILE
from sweeper.space import Config
from sweeper.training import STARTUP, Job


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="builtin:quickstart")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--rows", type=int, default=120, help="of the packaged data")
    parser.add_argument("--zero-stage", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    arguments = parser.parse_args()
    from sweeper.training.ranks.worker import RankWorker

    worker = RankWorker(0, 1, os.cpu_count() or 1, "cpu")
    worker.join("127.0.0.1", worker.listen("127.0.0.1"))
    with tempfile.TemporaryDirectory() as folder:
        return max([measure(worker, stage, arguments, Path(folder)) for stage in arguments.zero_stage])


def measure(worker: Any, stage: int, arguments: argparse.Namespace, folder: Path) -> int:
    from sweeper.training.memory import held_memory_gib

    job = job_of(stage, arguments, folder)
    seconds, held, starts = [], [], []
    for _ in range(arguments.trials):
        began, done = time.perf_counter(), False
        quietly(worker.prepare, job)
        while not done:
            progress = worker.advance()
            starts += [progress.metrics[STARTUP]] if STARTUP in progress.metrics else []
            done = progress.done
        worker.stop()
        seconds.append(time.perf_counter() - began)
        held.append(held_memory_gib() * 1024)
    growth, start = held[-1] / held[1] - 1, statistics.median(starts[1:])
    early, late = (statistics.median(part) for part in (seconds[1:11], seconds[-10:]))
    print(
        f"ZeRO {stage}: {arguments.trials} trials; held {held[1]:.0f} -> {held[-1]:.0f} MiB ({growth:+.1%}); "
        f"first {seconds[0]:.2f} s, early {early:.2f}, late {late:.2f}, slowest {max(seconds[1:]):.2f} s; "
        f"start {starts[0]:.2f} s, then {start:.2f} s (median)",
        flush=True,
    )
    return int(growth > 0.1 or late > 1.1 * early or start > 2)


def job_of(stage: int, arguments: argparse.Namespace, folder: Path) -> Job:
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(DATA_FILE.read_text(encoding="utf-8").split("\n")[: arguments.rows]) + "\n")
    config = Config.model_validate(
        {
            "name": "long-life",
            "model_path": arguments.model,
            "data_path": str(rows),
            "eval_data": 0.1,
            "objective": {"evaluations": 1},
            "training": {
                "lr": 1e-4,
                "scheduler": "cosine",
                "final_lr_ratio": 0.0,
                "warmup_ratio": 0.0,
                "decay_ratio": 0.2,
                "epochs": 1,
                "per_device_batch_size": 8,
                "gradient_accumulation_steps": 1,
                "global_batch_size": 8,
                "max_seq_len": 96,
            },
            "deepspeed": {"zero_stage": stage, "precision": arguments.precision},
            "resources": {"max_concurrent": 1, "cpus_per_rank": os.cpu_count() or 1, "gpus_per_rank": 0},
        }
    )
    data = prepare(config, folder / "cache")
    return Job(config=config, cache_dir=folder / "cache", data_dir=data.folder, log_file=folder / "log.txt")


def quietly(prepare_trial: Callable[[Job], object], job: Job) -> None:
    """A worker sends its output to the trial's log: only while it prepares, so that we can still print."""
    saved = os.dup(1), os.dup(2)
    try:
        prepare_trial(job)
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
