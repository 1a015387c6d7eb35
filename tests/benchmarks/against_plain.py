"""What predictable memory costs on a CPU: speed against a plain DeepSpeed script, and errors of predictions.

    python tests/benchmarks/against_plain.py
    python tests/benchmarks/against_plain.py --only-speed --own-pages-kib 256 2048

First, trials of three sizes are compared with ``plain_deepspeed_sft.py``, which knows nothing of sweeper:
same weights, rows, micro-batches and precision, fp32 without ZeRO. Both are there at once and train in turn,
block by block, so that what else the machine does meets both; a pair is two blocks next to each other. What
counts is real (non-padding) tokens per second of optimizer steps. Then the predicted peaks of
``memory_model.py`` are compared with measured ones. Exits with 1 where the middle of the ratios is below
0.97, or a prediction is further off than ``memory_model.py`` allows.

Minor page faults show what the allocator costs on any machine: where pages are dear (virtual machines), each
takes some microseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from memory_model import Peaks, compare
from models import write_model, write_rows

from sweeper.quickstart import DATA_FILE, MODEL_DIR

LEAST_RATIO = 0.97


@dataclass(frozen=True, kw_only=True)
class Shape:
    model: str
    """A folder, or a name of ``models.write_model``."""
    data: str
    """A file, or nothing for ``models.write_rows``."""
    rows: int
    """Of a micro-batch, which is also the global batch."""
    max_seq_len: int
    steps: int
    """Of a block."""


SHAPES = {
    "1 M": Shape(model=str(MODEL_DIR), data=str(DATA_FILE), rows=16, max_seq_len=96, steps=30),
    "12 M": Shape(model="llama-12m", data=str(DATA_FILE), rows=8, max_seq_len=128, steps=8),
    "135 M": Shape(model="smollm2-135m", data="", rows=2, max_seq_len=512, steps=3),
}


@dataclass(frozen=True, kw_only=True)
class Block:
    tokens: float
    seconds: float
    page_faults: float
    """Of the whole block, an evaluation left out."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    parser.add_argument(
        "--own-pages-kib", type=int, nargs="+", help="sizes to try instead of the package's own"
    )
    parser.add_argument("--only-speed", action="store_true")
    parser.add_argument("--peaks", type=Path, help="as memory_model.py's")
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:
        _serve(**options.side)
        return 0
    status = 0
    with tempfile.TemporaryDirectory() as name:
        for shape in options.shapes:
            sizes = options.own_pages_kib or [None]
            status |= compare_speed(shape, Path(name), options.pairs, options.threads, sizes)
    if not options.only_speed:
        status |= compare("", Peaks(options.peaks), side_by_side=1, png=None)
    return status


def compare_speed(name: str, folder: Path, pairs: int, threads: int, sizes: list[int | None]) -> int:
    """Prints a line for each size from which a block has pages of its own; returns the exit status."""
    shape = _furnished(SHAPES[name], folder)
    given: dict[str, Any] = {
        "shape": asdict(shape),
        "folder": str(folder),
        "threads": threads,
        "pairs": pairs,
    }
    plain = Side({"kind": "plain", **given})
    ours = [Side({"kind": "ours", "own_pages_kib": size, **given}) for size in sizes]
    sides = [plain, *ours]
    try:
        for side in sides:
            side.train()  # the first block warms up
        blocks: list[list[Block]] = [[] for _ in sides]
        for pair in range(pairs):
            for index in range(len(sides)) if pair % 2 == 0 else reversed(range(len(sides))):
                blocks[index].append(sides[index].train())
    finally:
        for side in sides:
            side.end()
    worst = 1.0
    for size, measured in zip(sizes, blocks[1:], strict=True):
        ratios = [_speed(one) / _speed(other) for one, other in zip(measured, blocks[0], strict=True)]
        worst = min(worst, statistics.median(ratios))
        print(_line(name, size, measured, blocks[0], ratios), flush=True)
    return int(worst < LEAST_RATIO)


def _line(name: str, size: int | None, ours: list[Block], plain: list[Block], ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    own = "as the package" if size is None else f"own pages from {size} KiB"
    speeds = [statistics.median(map(_speed, side)) for side in (ours, plain)]
    faults = [statistics.median(block.page_faults / block.tokens for block in side) for side in (ours, plain)]
    return (
        f"{name:6} {own:24} {speeds[0]:8.1f} tokens/s, plain {speeds[1]:8.1f}; ratio {middle:.3f} "
        f"(half of {len(ratios)} pairs between {low:.3f} and {high:.3f}, all between {min(ratios):.3f} and "
        f"{max(ratios):.3f}); page faults a token {faults[0]:.1f}, plain {faults[1]:.1f}; "
        f"load {os.getloadavg()[0]:.1f}"
    )


def _speed(block: Block) -> float:
    return block.tokens / block.seconds


class Side:
    """A process that trains a block whenever it is told to."""

    def __init__(self, given: dict[str, Any]) -> None:
        # In the user's own folder a build that was killed has left a lock, and everybody waits for it.
        built = Path(given["folder"]) / "built"
        self._log = Path(given["folder"]) / f"{given['kind']}.log"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--side", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("a"),
            text=True,
            env=os.environ | {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(built)},
        )

    def train(self) -> Block:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("train\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(self._log.read_text(errors="replace")[-4000:])
        return Block(**json.loads(answer))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve(kind: str, shape: dict[str, Any], folder: str, threads: int, pairs: int, **ours: Any) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if kind == "plain":
        blocks = _plain_blocks(Shape(**shape), Path(folder), threads)
    else:
        blocks = _our_blocks(Shape(**shape), Path(folder), threads, pairs, **ours)
    for _ in sys.stdin:
        answers.write(json.dumps(asdict(next(blocks))) + "\n")
        answers.flush()


def _plain_blocks(shape: Shape, folder: Path, threads: int) -> Iterator[Block]:
    import plain_deepspeed_sft as plain

    config = folder / "ds.json"
    config.write_text(
        json.dumps(
            {
                "train_micro_batch_size_per_gpu": shape.rows,
                "gradient_clipping": 1.0,
                "zero_allow_untested_optimizer": True,
            }
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = ["--deepspeed", "--deepspeed_config", str(config), "--model", shape.model, "--data", shape.data]
    words += ["--max-seq-len", str(shape.max_seq_len), "--threads", str(threads)]
    engine, batches = plain.set_up(plain.parsed(words))
    while True:
        faults, began = _page_faults(), time.perf_counter()
        tokens = sum(plain.optimizer_step(engine, batches) for _ in range(shape.steps))
        yield Block(tokens=tokens, seconds=time.perf_counter() - began, page_faults=_page_faults() - faults)


def _our_blocks(
    shape: Shape, folder: Path, threads: int, pairs: int, own_pages_kib: int | None
) -> Iterator[Block]:
    """A trial as a sweep runs it, which is evaluated after each block; its own figures."""
    from sweeper.data import gather_facts, prepared_folder
    from sweeper.space import load_space
    from sweeper.training import Job, memory
    from sweeper.training.ranks.worker import RankWorker
    from sweeper.training.trainer import Trainer

    if own_pages_kib is not None:
        memory._FAST_BYTES = (own_pages_kib * 1024, memory._FAST_BYTES[1])
    evaluate, evaluated = Trainer._evaluate, [0]

    def counted(self: Trainer) -> dict[str, float]:
        before = _page_faults()
        metrics = evaluate(self)
        evaluated[0] += _page_faults() - before
        return metrics

    Trainer._evaluate = counted  # type: ignore[method-assign]
    here = Path(tempfile.mkdtemp(dir=folder))
    file, blocks = here / "space.yaml", pairs + 1
    file.write_text(
        yaml.safe_dump(
            {
                "name": "speed",
                "model_path": shape.model,
                "data_path": shape.data,
                "eval_data": 0.02,
                "training": {
                    "per_device_batch_size": shape.rows,
                    "gradient_accumulation_steps": 1,
                    "max_seq_len": shape.max_seq_len,
                },
                "deepspeed": {"zero_stage": 0, "precision": "fp32"},
                "objective": {"evaluations": blocks},
                "resources": {"gpus_per_rank": 0, "cpus_per_rank": threads},
            }
        )
    )
    space = load_space(file, gather=gather_facts)
    config = space.close(space.default_values())
    worker = RankWorker(0, 1, threads, "cpu")
    worker.join("127.0.0.1", worker.listen("127.0.0.1"))
    data = prepared_folder(config, here)
    steps = blocks * shape.steps
    worker.prepare(Job(config=config, cache_dir=here, data_dir=data, log_file=here / "log", steps=steps))
    while True:
        faults, evaluated[0] = _page_faults(), 0
        progress = worker.advance()
        seconds = progress.metrics["perf/step_s"] * len(progress.steps)
        yield Block(
            tokens=progress.metrics["perf/tokens_per_s"] * seconds,
            seconds=seconds,
            page_faults=_page_faults() - faults - evaluated[0],
        )


def _page_faults() -> int:
    """Minor ones of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _furnished(shape: Shape, folder: Path) -> Shape:
    """With a model and rows that are there."""
    model, data = Path(shape.model), Path(shape.data)
    if not model.is_dir():
        model = folder / shape.model
        write_model(shape.model, model)
    if not shape.data:
        data = folder / "rows.jsonl"
        write_rows(data)
    return Shape(**(asdict(shape) | {"model": str(model), "data": str(data)}))


if __name__ == "__main__":
    sys.exit(main())
