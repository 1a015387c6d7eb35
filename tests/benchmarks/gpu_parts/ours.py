"""One warm rank of this package: starts, speed, memory, and many trials in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from setting import HAS_GPU, SCALE, config_of, flops_per_token, peak_flops

from sweeper.autotune.estimate.memory_model import predict
from sweeper.autotune.estimate.workload import probed_workload
from sweeper.data import TokenizedData, prepare
from sweeper.data.model.sizes import model_sizes
from sweeper.space import Config
from sweeper.training import STARTUP, Job, Progress
from sweeper.training.ranks.processes import choose_device

STARTED_S = time.time()
"""When this process began."""
Figures = Iterator[tuple[str, Any]]
GIB = 2**30


@cache
def rank() -> Any:
    choose_device("cuda" if HAS_GPU else "cpu")
    from sweeper.training.ranks.worker import RankWorker

    worker = RankWorker(0, 1, 4 if HAS_GPU else 1, "cuda" if HAS_GPU else "cpu", began=STARTED_S)
    worker.join("127.0.0.1", worker.listen("127.0.0.1"))
    return worker


def job_of(out: Path, config: Config, *, steps: int | None = None) -> tuple[Job, TokenizedData]:
    data = prepare(config, out / "cache")
    job = Job(
        config=config, cache_dir=out / "cache", data_dir=data.folder, log_file=out / "ours.log",
        steps=steps or SCALE.steps, held_out_rows=16,
    )  # fmt: skip
    return job, data


def trained(job: Job) -> list[Progress]:
    """To the end; memory is given back."""
    prepared = rank().prepare(job)
    print(prepared.model_notes)
    seen: list[Progress] = []
    while not seen or not seen[-1].done:
        seen.append(rank().advance())
    rank().stop()
    return seen


def start(out: Path) -> Figures:
    config = config_of(out, "0.1 B")
    job, _ = job_of(out, config, steps=3)
    for name in ("cold, with the rows and the model to be made", "warm", "warm again"):
        began = time.time()
        seen = trained(job)
        told = next(one.metrics[STARTUP] for one in seen if STARTUP in one.metrics)
        yield f"{name}: s to the first step", told
        yield f"{name}: s of a trial of 3 steps", time.time() - began


def speed(out: Path) -> Figures:
    for name in SCALE.models:
        for packing in (False, True):
            config = config_of(out, name, packing=packing)
            job, data = job_of(out, config)
            last = trained(job)[-1].metrics
            tokens_per_s = last["perf/tokens_per_s"]
            flops = tokens_per_s * flops_per_token(SCALE.models[name], float(data.train.lengths.mean()))
            figures = {"real tokens/s": tokens_per_s, "step s": last["perf/step_s"]}
            figures |= {"peak GiB": last["perf/peak_memory_gib"], "TFLOPS": flops / 1e12}
            if (peak := peak_flops()) is not None:
                figures["MFU"] = flops / peak
            yield f"{name} {'packed' if packing else 'rows'}", figures


WAYS: dict[str, dict[str, Any]] = {
    "ZeRO 0": {},
    "ZeRO 1": {"zero_stage": 1},
    "ZeRO 2": {"zero_stage": 2},
    "ZeRO 3": {"zero_stage": 3},
    "checkpointing": {"gradient_checkpointing": True},
    "adapters": {"lora": {"rank": 16, "alpha": 32}},
    "packed": {"packing": True},
    "ZeRO 2, optimizer offloaded": {"zero_stage": 2, "offload": "optimizer"},
    "ZeRO 3, all offloaded": {"zero_stage": 3, "offload": "all"},
}


def memory(out: Path) -> Figures:
    import torch

    if HAS_GPU:
        rank().stop()
        free, total = torch.cuda.mem_get_info()
        yield "context and strangers, GiB", (total - free - torch.cuda.memory_reserved()) / GIB
    for name, ways in (("1 B", list(WAYS)), ("0.1 B", ["ZeRO 0", "checkpointing", "packed"])):
        for way in ways:
            settings = WAYS[way]
            config = config_of(out, name, **settings)
            job, data = job_of(out, config, steps=4)
            sizes = model_sizes(config.model_path)
            assert sizes is not None
            if HAS_GPU:
                torch.cuda.reset_peak_memory_stats()
            try:
                probed = rank().probe(job)
            except Exception as error:  # the next way may fit
                yield f"{name} {way}", f"{type(error).__name__}: {str(error)[:150]}"
                rank().stop()
                continue
            found = predict(config, sizes, probed_workload(probed, data))
            measured = probed.peak_gib - probed.idle_gib
            figures = {"predicted": found.total_gib, "measured": measured}
            figures |= {"off": found.total_gib / measured - 1, "step s": probed.steps[-1].seconds}
            if HAS_GPU:
                figures["reserved"] = torch.cuda.max_memory_reserved() / GIB
            yield f"{name} {way}", figures


def growth(out: Path) -> Figures:
    import torch

    from sweeper.training.memory import held_memory_gib

    held: list[float] = []
    allocated: list[float] = []
    for trial in range(SCALE.trials):
        stage = (0, 2, 3)[trial % 3]
        trained(job_of(out, config_of(out, "0.1 B", zero_stage=stage), steps=3)[0])
        held.append(held_memory_gib())
        allocated.append(torch.cuda.memory_allocated() / GIB if HAS_GPU else 0.0)
    yield "held GiB after the third and the last trial", {"third": held[2], "last": held[-1]}
    yield "allocated GiB after the third and the last", {"third": allocated[2], "last": allocated[-1]}
    yield "should be recycled", rank().should_recycle()
