"""What needs several processes: autotuning, trials side by side, memory that runs out, the quickstart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from setting import HAS_GPU, SCALE, config_of, model_folder, rows_file

HERE = Path(__file__).parent
Figures = Iterator[tuple[str, Any]]


def autotune(out: Path) -> Figures:
    """``tests/benchmarks/autotune.py`` with a smaller grid, on the smaller model."""
    import autotune as bench

    bench.STAGES, bench.GRID_STEPS = (0,), 4
    bench.FINALISTS = bench.ROUNDS = 2 if HAS_GPU else 1
    bench.DATA_FILE = rows_file(out)
    batch = 64 if HAS_GPU else 2
    shape = bench.Shape("GPU", f"global_batch_size: {batch}, max_seq_len: {SCALE.max_seq_len}")
    scratch = out / f"autotune-{time.time():.0f}"
    scratch.mkdir()
    bench.measure(shape, model_folder(out, "0.1 B"), scratch)
    yield "share of the grid's best", shape.share
    yield "probes", shape.probes
    yield "s of ours and of the grid", {"ours": shape.ours_s, "grid": shape.grid_s}
    yield "summary", bench.line(shape)
    yield "final", bench.final(shape)
    yield "peaks", bench.off(list(shape.peaks.values())) if shape.peaks else "none"


def shared(out: Path) -> Figures:
    """Trials of one model in ranks that share the GPU, each kept to its share; tokens of all together."""
    model_folder(out, "0.1 B")
    rows_file(out)
    most = 4 if HAS_GPU else 2
    sides = [Side(out, most) for _ in range(most)]
    try:
        for side in sides:
            side.answer()  # ready, after a first trial that warms up
        alone = 0.0
        for count in (1, 2, 4)[: 3 if HAS_GPU else 2]:
            began = time.perf_counter()
            for side in sides[:count]:
                side.ask()
            told = [side.answer() for side in sides[:count]]
            seconds = time.perf_counter() - began
            speed = sum(one["tokens"] for one in told) / seconds
            alone = alone or speed
            peak = max(one["peak_gib"] for one in told)
            yield f"{count} at a time", {"tokens/s": speed, "of one": speed / alone, "peak GiB": peak}
    finally:
        for side in sides:
            side.end()


class Side:
    """A rank in a process of its own, that trains when it is asked to."""

    def __init__(self, out: Path, sides: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(out), str(sides)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("train\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError("a rank has ended; its last words are in the log")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(out: Path, sides: int) -> None:
    import ours

    answers = os.fdopen(os.dup(1), "w")  # what a rank prints goes to its log from its first trial on
    config = config_of(out, "0.1 B", rows=max(4, SCALE.rows["0.1 B"] // 4))
    share = {"gpus_per_rank": 1 / sides if HAS_GPU else 0}
    config = config.model_copy(update={"resources": config.resources.model_copy(update=share)})
    job, _ = ours.job_of(out, config)
    while True:
        last = ours.trained(job)[-1]
        told = {"tokens": last.tokens, "peak_gib": last.metrics["perf/peak_memory_gib"]}
        answers.write(json.dumps(told) + "\n")
        answers.flush()
        if not sys.stdin.readline():
            return


def oom(out: Path) -> Figures:
    """A micro-batch that cannot fit: on a GPU without any limit, on a CPU under one."""
    rows = 1024 if HAS_GPU else 256
    tree: dict[str, Any] = {
        "name": "oom",
        "model_path": str(model_folder(out, "1 B")) if HAS_GPU else "builtin:quickstart",
        "data_path": str(rows_file(out)) if HAS_GPU else "builtin:quickstart",
        "eval_data": 0.02,
        "training": {
            "lr": 1e-4, "scheduler": "constant", "epochs": 1 if HAS_GPU else 0.2, "global_batch_size": rows,
            "per_device_batch_size": rows, "max_seq_len": SCALE.max_seq_len if HAS_GPU else 96,
        },
        "deepspeed": {"zero_stage": 0, "precision": "bf16" if HAS_GPU else "fp32"},
        "objective": {"evaluations": 1},
        "resources": {"max_concurrent": 1, "cpus_per_rank": 4 if HAS_GPU else 1},
        "checkpoints": {"keep_last": 0},
    }  # fmt: skip
    if not HAS_GPU:
        tree["resources"]["memory_limit_gib"] = 0.8
    file = out / "oom.yaml"
    file.write_text(yaml.safe_dump(tree))
    began, target = time.monotonic(), out / f"oom-{time.time():.0f}"
    said = command("train", str(file), "--output-dir", str(target))
    yield "s in all", time.monotonic() - began
    setbacks = re.findall(r"out of memory, now [^(]*", said)
    yield "setbacks", len(setbacks)
    yield "the last one", setbacks[-1].strip() if setbacks else f"none: {said[-300:]}"
    split = dict(re.findall(r"(per_device_batch_size|gradient_accumulation_steps) (\d+)", setbacks[-1]))
    product = int(split["per_device_batch_size"]) * int(split["gradient_accumulation_steps"])
    yield "rows of a step, before and after", {"before": rows, "after": product}


def quickstart(out: Path) -> Figures:
    space, target = (
        HERE.parents[2] / "search_spaces" / "quickstart.yaml",
        out / f"quickstart-{time.time():.0f}",
    )
    few = [] if HAS_GPU else ["--trials", "2"]
    began = time.monotonic()
    command("run", str(space), "--out", str(target), *few)
    yield "s in all", time.monotonic() - began
    told = json.loads(command("status", str(target), "--json"))
    values = [one["value"] for one in told["trials"] if one["state"] == "COMPLETE"]
    yield "trials that came to their end, and the best", {"trials": len(values), "best": min(values)}


def command(*words: str) -> str:
    """What a ``sweeper`` command says. Raises RuntimeError, with its last words, where it fails."""
    done = subprocess.run([sys.executable, "-m", "sweeper", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"sweeper {words[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"
        )
    return done.stdout + (done.stderr if words[0] != "status" else "")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
