"""One rank: a process that imports torch and joins its group once, then runs trial after trial."""

from __future__ import annotations

import dataclasses
import gc
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import deepspeed
import psutil
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator, set_accelerator
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from deepspeed.runtime.utils import set_random_seed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch documents it all the same

from sweeper.data import TokenizedData, base_name, tokenized, use_copies
from sweeper.errors import TrialFailedError
from sweeper.redact import LogRedirect
from sweeper.remote import Files, copies_here, inside, moved, node_root
from sweeper.training.engine import STARTUP, Job, Prepared, Probed, Progress
from sweeper.training.feed import EvaluationFeed, TrainingFeed
from sweeper.training.generate.generation import Generation
from sweeper.training.generate.harness import Harness
from sweeper.training.generate.retained import Retention, make_retained
from sweeper.training.memory import (
    capacity_gib,
    fits_device,
    held_memory_gib,
    idle_memory_gib,
    is_cpu,
    limit_memory,
    memory_share_gib,
    return_freed_memory,
    return_unused,
)
from sweeper.training.model.attention import Layout, layout_of
from sweeper.training.model.loading import ModelStore
from sweeper.training.moved import MovedFile
from sweeper.training.parallel.pipeline import Pipeline
from sweeper.training.parallel.replicas import Replicas
from sweeper.training.ranks.failures import rank_log
from sweeper.training.ranks.probe import MOST_STEPS
from sweeper.training.ranks.processes import end_with_mark, leave_mark
from sweeper.training.trainer import Trainer

__all__ = ["RankWorker"]

_GROWTH_GIB, _GROWTH_FRACTION = 1.0, 0.25
"""So much more than after the first trial, the larger of the two, is too much."""


class RankWorker:
    """Keeps warm what trials share: the process group, the untrained model, the held-out batches."""

    def __init__(
        self, rank: int, ranks: int, threads: int, accelerator: str, *, began: float | None = None
    ) -> None:
        """``began`` is when the process did, before it imported torch, in seconds since the epoch."""
        self.rank, self.ranks = rank, ranks
        if accelerator == "cpu" and not is_cpu():  # DeepSpeed was imported where nobody had chosen yet
            set_accelerator(CPU_Accelerator())
        self._threads = threads
        self._idle_since = time.time() if began is None else began
        """When this process began, or when it last finished something for a trial."""
        self._trial_waited_since = self._idle_since
        self._models: ModelStore | None = None
        self._evaluations: dict[tuple[object, ...], EvaluationFeed] = {}
        self._generations: dict[tuple[object, ...], Generation] = {}
        self._harnesses: dict[tuple[object, ...], Harness] = {}
        self._retentions: dict[tuple[object, ...], Retention] = {}
        self._trainer: Trainer | None = None
        self._files: Files | None = None
        self._pause_wanted = threading.Event()
        self._is_first_here = rank == 0
        self._listener: socket.socket | None = None
        self._after_first_gib: float | None = None
        self._idle_gib = 0.0
        self._limit_gib: float | None = None

    def listen(self, address: str) -> int:
        """Where the ranks will meet, at this address and no other; returns the port, whose socket is kept
        until then: another process might take it.

        Gloo's own connections go by this address as well: by itself it asks what the host's name means, which
        many a host says is 127.0.0.1.
        """
        if (interface := _interface_of(address)) is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        self._listener = socket.create_server((address, 0))
        return int(self._listener.getsockname()[1])

    def join(self, address: str, port: int, *, is_first_here: bool = True) -> None:
        """Meet the other ranks where rank 0 listens; nccl on CUDA, gloo on a CPU. Called from the thread that
        will train: the number of threads is a setting of each thread. ``is_first_here``: of those on its
        node."""
        self._is_first_here = is_first_here
        torch.set_num_threads(self._threads)
        os.environ |= {
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.ranks),
            "LOCAL_RANK": "0",  # Ray shows each rank its own devices only
        }
        # DeepSpeed calls collectives by their old names, which would fill the log line by line.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
        backend = "gloo" if is_cpu() else get_accelerator().communication_backend_name()
        if is_cpu():
            _without_shared_memory_op()
        socket_fd = self._listener.detach() if self._listener is not None and self.rank == 0 else None
        store = TCPStore(address, port, self.ranks, is_master=self.rank == 0, master_listen_fd=socket_fd)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.ranks)
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
        return_freed_memory()
        self._idle_gib = idle_memory_gib()

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Under the trial's limit of memory, and no longer: handing on its answer needs some as well."""
        limit_memory(self._limit_gib)
        try:
            yield
        finally:
            limit_memory(None)

    def prepare(self, job: Job) -> Prepared:
        """Build the trial's engine. Raises UserError for data or model that cannot be used."""
        job = self._on_this_node(job)
        started = self._clear_for(job)
        config, device = job.config, get_accelerator().current_device_name()
        set_random_seed(config.training.seed)  # for adapters and dropout; the order of rows has its own
        data = tokenized(config, job.data_dir)
        self._models = self._models or ModelStore(job.cache_dir)
        model, row_check = self._models.fresh(config), self._models.row_check(config)
        if not is_cpu():  # a CPU's operations repeat, and old runs go on with the bits that they had
            repeat_to_the_last_bit(unless=row_check.unrepeatable)
        rows_apart = row_check.are_apart(config, data)
        sys.stdout.write(f"model: {row_check.note()}\n")
        layout = layout_of(model)
        feed = TrainingFeed(config, data, self.rank, layout, device, steps=job.steps)
        staged = config.parallel.pp > 1
        if not staged and fits_device(model):
            model = model.to(device)
        retention = self._retention(job, data, model, layout, device, rows_apart=rows_apart)
        executor = Pipeline(config, model, feed) if staged else Replicas(config, model, feed)
        if retention is not None:
            retention.settle(executor)
        self._trainer = Trainer(
            config,
            model,
            executor,
            feed,
            self._evaluation(job, data, layout, device, rows_apart=rows_apart),
            self._generation(job, data),
            retention,
            self._harness(job),
            evaluate_untrained=job.evaluate_untrained,
            started=started,
            pause_wanted=self._pause_wanted.is_set,
            on_moved=MovedFile(job.progress_file if self.rank == 0 else None).write,
            leave_at=job.leave_at,
            left_states=job.left_states,
            leads=self._is_first_here if job.files is not None else self.rank == 0,
        )
        not_forked = ""
        if job.resume_from is not None:
            self._trainer.restore(job.resume_from)
        elif job.fork_from is not None:
            not_forked = self._trainer.fork(job.fork_from)
        return Prepared(
            total_steps=feed.steps,
            total_tokens=feed.total_tokens,
            ds_config=executor.ds_config,
            data_notes=_data_notes(data),
            model_notes=(row_check.note(),),
            idle_memory_gib=self._idle_gib,
            not_forked=not_forked,
        )

    def _clear_for(self, job: Job) -> float:
        """What a trial before this one has left is gone, and this one's log, folder and limit of memory hold;
        returns when that began."""
        LogRedirect(rank_log(job.log_file, self.rank))  # what libraries in C print included
        if self.ranks > 1:
            meeting = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            sys.stdout.write(
                f"rank {self.rank} of {self.ranks} on {socket.gethostname()}, meeting at {meeting}\n"
            )
        if job.processes is not None:
            end_with_mark(leave_mark(job.processes))
        self._pause_wanted.clear()
        self._trial_waited_since = self._idle_since
        self.stop()
        started = time.time()
        if job.working_dir.is_dir():  # the processes of a cluster were started elsewhere
            os.chdir(job.working_dir)
        self._limit_gib = memory_share_gib(job.config.resources)
        return_freed_memory(tight=self._limit_gib is not None)
        limit_memory(self._limit_gib)
        return started

    def advance(self) -> Progress:
        """See Engine.advance. The first optimizer step also reports ``perf/startup_s``."""
        trainer = self._running()
        starting = trainer.first_step_began is None
        try:
            progress = trainer.advance()
        finally:
            self._idle_since = time.time()
        if starting and trainer.first_step_began is not None:
            progress.metrics[STARTUP] = trainer.first_step_began - self._trial_waited_since
        return progress

    def memory_gib(self, gpu_share: float) -> tuple[float, float]:
        """What the process held before it had a model, and what there is for all on its device, of which it
        has this share."""
        return self._idle_gib, capacity_gib(gpu_share=gpu_share)

    def probe(self, job: Job) -> Probed:
        """Train a few optimizer steps of the job's configuration, and say how fast and how large it was.

        ``job.steps``, the first of which warms up, are the most. Raises UserError as ``prepare`` does.
        """
        called_s = time.perf_counter()
        try:
            self.prepare(dataclasses.replace(job, steps=min(job.steps or MOST_STEPS, MOST_STEPS)))
            # As for a trial's steps: what the stacks of new threads reserved in between is not used.
            limit_memory(self._limit_gib)
            startup_s = time.perf_counter() - called_s
            return self._running().probe(startup_s=startup_s, idle_gib=self._idle_gib)
        finally:
            self.stop()

    def want_pause(self) -> None:
        """Have ``advance`` return soon. May be called from another thread while there is a trial."""
        self._pause_wanted.set()

    def _on_this_node(self, job: Job) -> Job:
        """With the paths that its files have here, where nodes share none."""
        self._files = job.files
        use_copies({} if job.files is None else copies_here(job.files))
        return job if job.files is None else moved(job, job.files, node_root(job.files))

    def _here(self, folder: Path) -> Path:
        files = self._files
        return folder if files is None else inside(folder, files, node_root(files))

    def checkpoint(self, folder: Path) -> None:
        self._running().checkpoint(self._here(folder))

    def restore(self, folder: Path) -> None:
        self._running().restore(self._here(folder))

    def save_model(self, folder: Path, merge: bool = False) -> None:
        trainer = self._running()
        assert self._models is not None
        folder = self._here(folder)
        trainer.save_model(folder, merge_into=self._models.fresh(trainer.config) if merge else None)

    def stop(self) -> None:
        """Free the trial's memory."""
        if self._trainer is not None:
            self._trainer.close()
            self._trainer = None
            gc.collect()
            return_unused()
            self._after_first_gib = self._after_first_gib or held_memory_gib()

    def should_recycle(self) -> bool:
        """Whether a new process would serve the next trial better: this one holds much more memory between
        trials than after its first one, because something leaks in a library."""
        self.stop()
        first = self._after_first_gib
        return first is not None and held_memory_gib() > first + max(_GROWTH_GIB, _GROWTH_FRACTION * first)

    def _running(self) -> Trainer:
        if self._trainer is None:
            raise TrialFailedError("no trial is prepared on this rank")
        return self._trainer

    def _evaluation(
        self, job: Job, data: TokenizedData, layout: Layout, device: str, *, rows_apart: bool
    ) -> EvaluationFeed:
        config = job.config
        most_rows = min(filter(None, (job.held_out_rows, config.evaluation.held_out_rows)), default=None)
        seq_len = config.training.max_seq_len
        key = (base_name(data.fingerprint), seq_len, layout, config.parallel, most_rows, rows_apart)
        if key not in self._evaluations:
            self._evaluations[key] = EvaluationFeed(
                config, data, self.rank, layout, device, most_rows=most_rows, rows_apart=rows_apart
            )
        return self._evaluations[key]

    def _retention(
        self, job: Job, data: TokenizedData, model: Any, layout: Layout, device: str, *, rows_apart: bool
    ) -> Retention | None:
        """None also where a few steps are only measured."""
        config = job.config
        if config.evaluation.retention is None or job.steps is not None:
            return None
        folder = make_retained(config, job.cache_dir, data, model, model.device)
        key = (folder, layout, config.parallel, rows_apart)
        if key not in self._retentions:
            feed = (config, self.rank, layout, device)
            self._retentions[key] = Retention(folder, data, feed, rows_apart=rows_apart)
        return self._retentions[key]

    def _harness(self, job: Job) -> Harness | None:
        """None also where a few steps are only measured."""
        config = job.config
        if not config.harness_tasks or job.steps is not None:
            return None
        key = (config.model_path, config.evaluation)
        if key not in self._harnesses:
            self._harnesses[key] = Harness(config)
        return self._harnesses[key]

    def _generation(self, job: Job, data: TokenizedData) -> Generation | None:
        config, metrics = job.config, job.config.generated_metrics
        if not metrics:
            return None
        stage = config.deepspeed.zero_stage
        held_out = base_name(data.fingerprint)
        key = (held_out, config.model_path, metrics, config.evaluation, config.parallel, stage == 3)
        if key not in self._generations:
            self._generations[key] = Generation(config, data, self.rank, job.working_dir)
        return self._generations[key]


def repeat_to_the_last_bit(*, unless: str) -> None:
    """Have each operation of this process give the same bits for the same numbers, and raise where it cannot;
    or do what it can, where something is known that stands against it.

    ``warn_only`` alone would leave the backward passes of attention as they are, which add up in any order.
    """
    torch.use_deterministic_algorithms(True, warn_only=bool(unless))
    # Nothing reads what is not written to, and filling it takes time. torch has no type for the setting.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _interface_of(address: str) -> str | None:
    """The network interface of this host that has the address."""
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, has in interfaces if any(one.address == address for one in has)), None)


def _data_notes(data: TokenizedData) -> tuple[str, ...]:
    left_out = (f"the bad rows are named in {data.bad_rows_file}",) if data.counts["rows_bad"] else ()
    return (data.summary(), *left_out, *data.notes)


def _without_shared_memory_op() -> None:
    """Do not let DeepSpeed compile its shared-memory collectives: half a minute and a compiler, for
    what gloo does as well."""
    with suppress(AttributeError):
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
