"""The memory model against measured peaks: random models, real trials on CPU ranks, one process a rank.

    python tests/benchmarks/memory_model.py --png memory_model.png
    python tests/benchmarks/memory_model.py --only llama --side-by-side 2

Every way to train (a model, and how DeepSpeed holds it) is measured with a small and with a large
micro-batch. A trial runs through RankWorker: one optimizer step and an evaluation, so that the optimizer has
its states, and then one more of both, whose peak of resident memory over that of the idle process is
compared with the prediction for exactly its passes. Calibrated predictions know the measured peak of the
small micro-batch, and are of the large one. Prints a table, and exits with 1 where an uncalibrated
prediction is more than 15 % off, or a calibrated one more than 12 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from models import write_model, write_rows

from sweeper.autotune.estimate.memory_model import Calibration, Memory, Pass, Workload, calibrated, predict
from sweeper.data import TokenizedSplit, gather_facts, prepared_folder, tokenized
from sweeper.data.model.sizes import model_sizes
from sweeper.space import Config, ModelSizes, load_space

UNCALIBRATED, CALIBRATED = 0.15, 0.12
STEPS, ACCUMULATION, PROCESS_LIMIT_S = 2, 2, 900


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One trial."""

    model: str
    rows: int
    """Rows of a micro-batch; with packing, sequences."""
    settings: dict[str, Any] = field(default_factory=dict)
    """By the names of the space file's fields."""

    @property
    def way(self) -> str:
        """What it shares with its other micro-batch."""
        return " ".join([self.model, *(f"{key}={value}" for key, value in self.settings.items())])


WAYS: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
    ("llama-small", 4, 16, {"zero_stage": 2}),
    ("llama", 3, 12, {}),
    ("llama", 4, 16, {"gradient_checkpointing": True}),
    ("llama", 3, 10, {"zero_stage": 1}),
    ("llama", 3, 10, {"zero_stage": 2}),
    ("llama", 3, 10, {"zero_stage": 3}),
    ("llama", 1, 3, {"packing": True}),
    ("llama", 3, 10, {"precision": "bf16"}),
    ("llama-wide", 1, 6, {"zero_stage": 2}),
    ("llama-wide", 2, 6, {"lora": {"rank": 16}}),
    ("llama-wide", 2, 6, {"precision": "bf16", "zero_stage": 1}),
    ("llama-wide", 2, 6, {"precision": "bf16", "zero_stage": 3}),
    ("llama-wide", 1, 4, {"dp": 2}),
    ("llama-wide", 1, 4, {"dp": 2, "zero_stage": 2}),
    ("llama-wide", 1, 4, {"dp": 2, "zero_stage": 3}),
    ("qwen", 2, 6, {"gradient_checkpointing": True, "zero_stage": 1}),
    ("qwen", 2, 6, {"lora": {"rank": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}}),
    ("gpt2", 2, 6, {}),
    ("gpt2", 2, 6, {"precision": "bf16", "gradient_checkpointing": True}),
)
"""Model, rows of the small and of the large micro-batch, settings."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="ways whose name has this in it")
    parser.add_argument("--png", type=Path, help="draw predicted over measured peaks into this file")
    parser.add_argument("--side-by-side", type=int, default=1, help="trials at a time")
    parser.add_argument("--peaks", type=Path, help="JSON file of measured peaks: read, and added to")
    parser.add_argument("--trial", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trial is not None:
        _run_rank(**options.trial)
        return 0
    return compare(options.only, Peaks(options.peaks), options.side_by_side, options.png)


def compare(only: str, peaks: Peaks, side_by_side: int, png: Path | None) -> int:
    """Prints the table; returns the exit status."""
    shapes = [
        Shape(model=model, rows=rows, settings=settings) for model, *both, settings in WAYS for rows in both
    ]
    shapes = [shape for shape in shapes if only in shape.way]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl")
        for model in {shape.model for shape in shapes}:
            write_model(model, folder / model)
        with ThreadPoolExecutor(side_by_side) as pool:
            points = list(pool.map(lambda shape: measured_point(shape, folder, peaks), shapes))
    return _report(shapes, points, png)


@dataclass(frozen=True, kw_only=True)
class Point:
    config: Config
    sizes: ModelSizes
    works: list[Workload]
    """Of each rank."""
    measured_gib: float
    """Of the rank that needs most."""

    def predicted(self, by: Calibration | None = None) -> Memory:
        each = (predict(self.config, self.sizes, work, by) for work in self.works)
        return max(each, key=lambda memory: memory.total_gib)


class Peaks:
    """Measured peaks that outlive this process, GiB: a change of the arithmetic needs no new trials."""

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._known: dict[str, float] = json.loads(file.read_text()) if file and file.exists() else {}

    def of(self, name: str, measure: Callable[[], float]) -> float:
        if name not in self._known:
            measured_gib = measure()
            with self._lock:
                self._known[name] = measured_gib
                if self._file is not None:
                    self._file.write_text(json.dumps(self._known, indent=1))
        return self._known[name]


def measured_point(shape: Shape, folder: Path, peaks: Peaks) -> Point:
    config = _config(shape, folder)
    measured_gib = peaks.of(f"{shape.way} m={shape.rows}", lambda: _measure(config, folder))
    sizes, works = model_sizes(config.model_path), list(_workloads(config, folder))
    assert sizes is not None
    point = Point(config=config, sizes=sizes, works=works, measured_gib=measured_gib)
    predicted = point.predicted()
    error = predicted.total_gib / measured_gib - 1
    print(f"{shape.way} m={shape.rows}: {error:+.1%} ({predicted.moment})", file=sys.stderr, flush=True)
    return point


def _config(shape: Shape, folder: Path) -> Config:
    training = {
        "per_device_batch_size": shape.rows,
        "gradient_accumulation_steps": ACCUMULATION,
        "max_seq_len": 512,
    }
    deepspeed: dict[str, Any] = {"zero_stage": 0, "precision": "fp32"}
    parallel: dict[str, Any] = {}
    for key, value in shape.settings.items():
        section = training if key in ("lora", "packing") else parallel if key == "dp" else deepspeed
        section[key] = value
    file = Path(tempfile.mkdtemp(dir=folder)) / "space.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "name": "memory",
                "model_path": str(folder / shape.model),
                "data_path": str(folder / "rows.jsonl"),
                "training": training,
                "deepspeed": deepspeed,
                "parallel": parallel,
                "resources": {"gpus_per_rank": 0},
                "objective": {"evaluations": 20},
            }
        )
    )
    space = load_space(file, gather=gather_facts)
    return space.close(space.default_values())


def _workloads(config: Config, folder: Path) -> Iterator[Workload]:
    """The passes of each rank's last step, and the largest held-out batch."""
    from sweeper.training.feed import EvaluationFeed, TrainingFeed

    data = tokenized(config, prepared_folder(config, folder / "cache"))
    for rank in range(config.parallel.dp):
        feed = TrainingFeed(config, data, rank, "row_wise", "cpu", steps=STEPS)
        held_out = EvaluationFeed(config, data, rank, "row_wise", "cpu")
        micros = [
            np.concatenate([feed.bins[index] for index in micro])
            for micro in feed.plan[:, :, rank].reshape(-1, feed.plan.shape[-1])
        ]
        first, later = (_pass_of(data.train, rows) for rows in micros[-ACCUMULATION:])
        lengths = data.train.lengths
        evaluated = [batch.attention["row_lengths"] for batch, _ in held_out.batches]
        yield Workload(
            first=first,
            later=later,
            held_out=Pass(
                tokens=max(batch.input_ids.numel() for batch, _ in held_out.batches),
                completion_tokens=max(batch.targets.numel() for batch, _ in held_out.batches),
            ),
            pass_lengths=_different_lengths(
                (int(lengths[rows].sum()) for rows in micros), (sum(rows) for rows in evaluated)
            ),
            row_lengths=_different_lengths(
                (int(one) for rows in micros for one in lengths[rows]),
                (one for rows in evaluated for one in rows),
            ),
        )


def _different_lengths(trained: Iterable[int], held_out: Iterable[int]) -> float:
    """See Workload.pass_lengths."""
    lengths = set(trained)
    return len(lengths) + len(set(held_out) - lengths) / 3


def _pass_of(split: TokenizedSplit, rows: np.ndarray[Any, Any]) -> Pass:
    lengths = split.lengths[rows].astype(np.int64)
    return Pass(
        tokens=int(lengths.sum()),
        completion_tokens=int(split.completion_tokens[rows].sum()),
        squared_tokens=int((lengths**2).sum()),
    )


def _measure(config: Config, folder: Path) -> float:
    """The largest peak of any rank over its idle process, GiB."""
    here = Path(tempfile.mkdtemp(dir=folder))
    (here / "config.json").write_text(config.model_dump_json())
    (here / "cache").symlink_to(folder / "cache")
    (folder / "cache").mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--trial"]
    ranks = [
        subprocess.Popen(
            [*command, json.dumps({"folder": str(here), "rank": rank})],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(config.parallel.dp)
    ]
    for rank in ranks:
        _, said = rank.communicate(timeout=PROCESS_LIMIT_S)
        if rank.returncode:
            logs = "".join(log.read_text()[-2000:] for log in here.glob("log*"))
            raise RuntimeError(f"a rank ended with status {rank.returncode}:\n{said[-2000:]}\n{logs}")
    return max(json.loads(file.read_text()) for file in here.glob("peak.*"))


def _run_rank(folder: str, rank: int) -> None:
    """One rank of one trial, in a process of its own: writes its peak over the idle process, GiB."""
    from sweeper.training.engine import Job
    from sweeper.training.memory import held_memory_gib, peak_memory_gib, reset_peak_memory
    from sweeper.training.ranks.worker import RankWorker

    here = Path(folder)
    config = Config.model_validate_json((here / "config.json").read_text())
    worker = RankWorker(rank, config.parallel.dp, 1, "cpu")
    port_file = here / "port"
    if rank == 0:
        port = worker.listen("127.0.0.1")
        draft = here / "port.draft"
        draft.write_text(str(port))
        draft.replace(port_file)
    else:
        while not port_file.exists():
            time.sleep(0.1)
        port = int(port_file.read_text())
    worker.join("127.0.0.1", port)
    idle_gib = held_memory_gib()
    cache = here / "cache"
    worker.prepare(
        Job(
            config=config,
            cache_dir=cache.resolve(),
            data_dir=prepared_folder(config, cache.resolve()),
            log_file=here / "log",
            steps=STEPS,
        )
    )
    worker.advance()
    reset_peak_memory()
    if not worker.advance().done:
        raise RuntimeError("the trial has more steps than were measured")
    (here / f"peak.{rank}").write_text(json.dumps(peak_memory_gib() - idle_gib))
    os._exit(0)  # nothing of torch's own clean-up is measured


def _report(shapes: list[Shape], points: list[Point], png: Path | None) -> int:
    width = max(len(shape.way) for shape in shapes)
    print(f"{'way to train':{width}}  rows  predicted  measured   error  calibrated   error   (GiB)")
    errors, calibrated_errors = [], []
    drawn: list[tuple[float, float, float | None]] = []
    small: dict[str, Point] = {}
    for shape, point in zip(shapes, points, strict=True):
        predicted = point.predicted()
        error = predicted.total_gib / point.measured_gib - 1
        errors.append(error)
        line = f"{shape.way:{width}}  {shape.rows:4}  {predicted.total_gib:9.3f}  {point.measured_gib:8.3f}"
        line += f"  {error:+6.1%}"
        again: float | None = None
        if shape.way in small:
            probe = small[shape.way]
            by = calibrated([(probe.predicted(), probe.measured_gib)])
            again = point.predicted(by).total_gib
            calibrated_errors.append(again / point.measured_gib - 1)
            line += f"  {again:10.3f}  {calibrated_errors[-1]:+6.1%}"
        small.setdefault(shape.way, point)
        drawn.append((point.measured_gib, predicted.total_gib, again))
        print(line)
    worst, worst_calibrated = (max(map(abs, some), default=0.0) for some in (errors, calibrated_errors))
    print(f"{len(errors)} shapes: {summary(errors)}")
    print(f"{len(calibrated_errors)} calibrated: {summary(calibrated_errors)}")
    if png is not None:
        draw_peaks(drawn, png)
    return 0 if worst <= UNCALIBRATED and worst_calibrated <= CALIBRATED else 1


def summary(errors: Sequence[float]) -> str:
    """Of shares by which predictions are off."""
    sizes = np.abs(errors or [0.0])
    return f"at most {sizes.max():.1%} off, {sizes.mean():.1%} on average"


def draw_peaks(points: Sequence[tuple[float, float, float | None]], png: Path) -> None:
    """Measured, predicted and calibrated, GiB."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6))
    measured = [one for one, _, _ in points]
    ends = np.array([0.0, 1.1 * max(measured)])
    axes.fill_between(
        ends, ends * (1 - UNCALIBRATED), ends * (1 + UNCALIBRATED), alpha=0.15, label=f"{UNCALIBRATED:.0%}"
    )
    axes.fill_between(
        ends, ends * (1 - CALIBRATED), ends * (1 + CALIBRATED), alpha=0.25, label=f"{CALIBRATED:.0%}"
    )
    axes.plot(ends, ends, color="gray", linewidth=0.8)
    axes.scatter(measured, [two for _, two, _ in points], s=22, label="from first principles")
    both = [(one, three) for one, _, three in points if three is not None]
    if both:
        axes.scatter(*zip(*both, strict=True), s=22, marker="x", label="calibrated by a smaller trial")
    axes.set(xlim=ends, ylim=ends, xlabel="measured peak (GiB)", ylabel="predicted peak (GiB)")
    axes.set_title("Memory of one rank over its idle process")
    axes.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(png, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
