"""The ranks of one trial as Ray actors, seen from outside as one engine."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweeper.errors import SweeperError, TrialFailedError, TrialLostError, TrialOutOfMemoryError
from sweeper.parent_death import die_with_parent
from sweeper.space import Config
from sweeper.training.engine import Job, Prepared, Probed, Progress
from sweeper.training.ranks.failures import (
    Failure,
    last_lines,
    log_size,
    ran_out_of_memory,
    root_cause,
    translated_errors,
)
from sweeper.training.ranks.processes import choose_device, kill, out_of_memory_kills

__all__ = ["HUNG_AFTER_S", "WorkerGroup", "placement_strategy", "rank_bundles"]

HUNG_AFTER_S = 30.0
"""A rank that has not answered for so long is taken for dead, whatever it does otherwise."""
_LOOK_EVERY_S = 1.0
_OTHERS_WITHIN_S = 5.0
"""When one rank fails, so much time is left to the others to say why: the first is often only a victim."""

_NEVER_STARTED = ("its node has died", "The actor never ran")
"""Ray says so in words only."""


class _NeverStartedError(TrialLostError):
    """A rank was to start on a node that is lost."""


def rank_bundles(config: Config) -> list[dict[str, float]]:
    """What each rank asks of Ray."""
    resources = config.resources
    bundle: dict[str, float] = {"CPU": resources.cpus_per_rank}
    if resources.gpus_per_rank:
        bundle["GPU"] = resources.gpus_per_rank
    return [dict(bundle) for _ in range(config.parallel.ranks)]


def placement_strategy(config: Config) -> str:
    """How Ray spreads the bundles of one trial over nodes."""
    return config.resources.placement.upper()


class _RankProcess(NamedTuple):
    """Where a rank's process is."""

    host: str
    pid: int
    address: str
    port: int
    """Where it listens for other ranks."""
    node: str
    """Ray's id of its node."""


@contextmanager
def _absent(*modules: str) -> Iterator[None]:
    """While it lasts, importing the modules fails as where they are not installed."""
    absent = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for module in absent:
            del sys.modules[module]


class _Rank:
    """The actor: imports torch in its own process, never in the one that creates it."""

    def __init__(
        self, rank: int, ranks: int, threads: int, accelerator: str, variables: Mapping[str, str]
    ) -> None:
        die_with_parent()
        os.environ |= variables  # before the libraries that read them are imported
        choose_device(accelerator)
        began = time.time()
        # DeepSpeed's autotuner and transformers' losses of image models, which no rank uses, would import
        # them for a second and for half a one.
        with _absent("mlflow", "scipy"):
            from sweeper.training.ranks.worker import RankWorker

        self._worker = RankWorker(rank, ranks, threads, accelerator, began=began)

    def locate(self) -> _RankProcess:
        address, node = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        return _RankProcess(socket.gethostname(), os.getpid(), address, self._worker.listen(address), node)

    def join(self, address: str, port: int, first_ranks: Collection[int]) -> None:
        self._worker.join(address, port, is_first_here=self._worker.rank in first_ranks)

    @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
    def beat(self) -> None:
        """Answered by a thread of its own, also while the rank trains."""

    @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
    def want_pause(self) -> None:
        self._worker.want_pause()

    def call(self, method: str, *arguments: Any) -> Any:
        with self._worker.limited(), translated_errors():
            return getattr(self._worker, method)(*arguments)


class WorkerGroup:
    """Implements Engine over rank actors that stay alive from trial to trial.

    Each call goes to every rank and returns what rank 0 said. An exception of any rank is raised
    here as it was when it is one of this package's, else as TrialFailedError with its text. A rank that
    dies, or does not answer for HUNG_AFTER_S, ends the call with TrialLostError or
    TrialOutOfMemoryError: after that the group is of no use, and is to be shut down.
    """

    def __init__(
        self,
        config: Config,
        placement: PlacementGroup | None,
        *,
        pause_wanted: Callable[[], bool] = lambda: False,
        release: Callable[[], None] = lambda: None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Rank i takes bundle i of ``placement``; without one, Ray finds a place for each.

        ``pause_wanted`` is asked about once a second while a call is under way; ``release`` is called when
        the processes have been ended; ``variables`` are put into the environment of each.
        """
        self.ranks = config.parallel.ranks
        self._pause_wanted, self._release = pause_wanted, release
        self._log_file: Path | None = None
        self._logged_before = [0] * self.ranks
        self._jobs = 0
        self._actors: list[Any] = []
        self._processes: list[_RankProcess] = []
        self._oom_kills = out_of_memory_kills()
        resources = config.resources
        self._limited = resources.memory_limit_gib is not None and not resources.gpus_per_rank
        self._gpu_share = resources.gpus_per_rank
        try:
            self._actors, self._processes = self._start(config, placement, variables or {})
            meeting = self._processes[0]
            self._each("join", meeting.address, meeting.port, set(self.nodes.values()))
        except BaseException:
            self.shut_down()
            raise

    def _start(
        self, config: Config, placement: PlacementGroup | None, variables: Mapping[str, str]
    ) -> tuple[list[Any], list[_RankProcess]]:
        """The ranks' actors, and where they are. A node that is lost is given places for half a minute before
        Ray notices: what was to start there gets another place, and no retry of the trial is spent on it."""
        while True:
            self._actors = self._make(config, placement, variables)
            try:
                return self._actors, self._each("locate", watched=False)
            except _NeverStartedError:
                for actor in self._actors:
                    ray.kill(actor)

    def _make(
        self, config: Config, placement: PlacementGroup | None, variables: Mapping[str, str]
    ) -> list[Any]:
        resources = config.resources
        threads, accelerator = resources.cpus_per_rank, "cuda" if resources.gpus_per_rank else "cpu"
        actor, actors = ray.remote(concurrency_groups={"watch": 1})(_Rank), []
        for rank in range(self.ranks):
            strategy = (
                PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=rank)
                if placement
                else "DEFAULT"
            )
            options = actor.options(
                num_cpus=threads, num_gpus=resources.gpus_per_rank, scheduling_strategy=strategy
            )
            actors.append(options.remote(rank, self.ranks, threads, accelerator, variables))
        return actors

    @property
    def nodes(self) -> dict[str, int]:
        """Ray's ids of the nodes that ranks are on, that of rank 0 first, and the first rank on each."""
        found: dict[str, int] = {}
        for rank, process in enumerate(self._processes):
            found.setdefault(process.node, rank)
        return found

    @property
    def has_run_before(self) -> bool:
        """Whether the processes had another job before the present one: they hold a little more memory then,
        in heaps that have been used."""
        return self._jobs > 1

    def prepare(self, job: Job) -> Prepared:
        self._begin(job)
        return cast(Prepared, self._all("prepare", job))

    def memory_gib(self) -> tuple[float, float]:
        """Of an idle rank, the most of all; and what there is for all on a rank's device, the least."""
        idle, capacity = zip(*self._each("call", "memory_gib", self._gpu_share), strict=True)
        return max(idle), min(capacity)

    def probe(self, job: Job) -> Probed:
        """A few optimizer steps, measured; the processes stay warm. Raises what the others raise."""
        self._begin(job)
        return cast(Probed, self._all("probe", job))

    def advance(self) -> Progress:
        if self._pause_wanted():  # known before the first step, and not a second after it
            ray.get([actor.want_pause.remote() for actor in self._actors])
        return cast(Progress, self._all("advance"))

    def checkpoint(self, folder: Path) -> None:
        self._all("checkpoint", folder)

    def restore(self, folder: Path) -> None:
        self._all("restore", folder)

    def save_model(self, folder: Path, merge: bool = False) -> None:
        self._all("save_model", folder, merge)

    def stop(self) -> None:
        self._all("stop")

    def should_recycle(self) -> bool:
        """Whether new processes would serve the next trial better: see RankWorker.should_recycle."""
        return any(self._each("call", "should_recycle"))

    def shut_down(self) -> None:
        """End the processes, whatever state they are in."""
        for actor in self._actors:
            ray.kill(actor)
        for process in self._processes:
            # A process that is stopped or busy does not hear Ray.
            if process.host == socket.gethostname():
                kill(process.pid)
        self._actors, self._processes = [], []
        self._release()

    def _begin(self, job: Job) -> None:
        self._log_file = job.log_file
        self._logged_before = [log_size(job.log_file, rank) for rank in range(self.ranks)]
        self._jobs += 1

    def _all(self, method: str, *arguments: Any) -> Any:
        return self._each("call", method, *arguments)[0]

    def _each(self, method: str, *arguments: Any, watched: bool = True) -> list[Any]:
        """Call a method of every rank; what each returned. Raises what the docstring of the class says."""
        references = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        ranks = {reference: rank for rank, reference in enumerate(references)}
        waiting, heartbeats = list(references), _Heartbeats(self._actors if watched else [])
        while waiting:
            if watched and self._pause_wanted():
                heartbeats.want_pause()
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=_LOOK_EVERY_S)
            if any(self._failure(ranks[one], one) for one in ready):
                raise self._cause(ranks, waiting, ready)
            if not ready and (rank := heartbeats.silent(ranks[one] for one in waiting)) is not None:
                raise TrialLostError(self._lost(rank, f"has not answered for {HUNG_AFTER_S:g} s"))
        return cast(list[Any], ray.get(references))

    def _cause(self, ranks: dict[Any, int], waiting: list[Any], failed: list[Any]) -> SweeperError:
        """What really went wrong when a rank failed: wait a little for those that failed with it."""
        deadline = time.monotonic() + _OTHERS_WITHIN_S
        while waiting and (left_s := deadline - time.monotonic()) > 0:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=left_s)
            failed += ready
        return root_cause([failure for one in failed if (failure := self._failure(ranks[one], one))])

    def _failure(self, rank: int, reference: Any) -> Failure | None:
        """How a finished call ended; None where it has a value."""
        try:
            ray.get(reference)
        except ray.exceptions.OutOfMemoryError:
            ended = TrialOutOfMemoryError(f"Ray ended rank {rank}: the host's memory ran out")
            return Failure(ended, is_gone=True)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            ours = cause if isinstance(cause, SweeperError) else None
            return Failure(ours or TrialFailedError(f"{type(cause).__name__}: {cause}"))
        except ray.exceptions.RayError as error:
            if all(one in str(error) for one in _NEVER_STARTED):
                return Failure(_NeverStartedError(f"rank {rank}: its node is lost"), is_gone=True)
            by_kernel = out_of_memory_kills() > self._oom_kills
            how = "was killed by the kernel: the host's memory ran out" if by_kernel else "died"
            said = self._lost(rank, how)
            no_memory = by_kernel or ran_out_of_memory(said, limited=self._limited)
            return Failure(TrialOutOfMemoryError(said) if no_memory else TrialLostError(said), is_gone=True)
        return None

    def _lost(self, rank: int, how: str) -> str:
        process = ""
        if self._processes:
            process = f" (process {self._processes[rank].pid} on {self._processes[rank].host})"
        said = ""
        if self._log_file is not None:
            said = last_lines(self._log_file, rank, after=self._logged_before[rank])
        return f"rank {rank}{process} {how}" + (f"; its log ends with: {said}" if said else "")


class _Heartbeats:
    """Asks ranks for a sign of life, again and again."""

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors
        self._asked: dict[int, tuple[Any, float]] = {}
        self._pauses: list[Any] = []

    def want_pause(self) -> None:
        if not self._pauses:
            self._pauses = [actor.want_pause.remote() for actor in self._actors]

    def silent(self, ranks: Any) -> int | None:
        """A rank that has not answered for too long."""
        now = time.monotonic()
        for rank in ranks if self._actors else ():
            reference, since = self._asked.get(rank, (None, now))
            if reference is None or ray.wait([reference], timeout=0)[0]:
                self._asked[rank] = (self._actors[rank].beat.remote(), now)
            elif now - since > HUNG_AFTER_S:
                return int(rank)
        return None
