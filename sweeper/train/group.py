"""The ranks of one trial as Ray actors, seen from outside as one engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweeper.errors import SweeperError, TrialFailedError
from sweeper.spec import Config
from sweeper.train.engine import Job, Prepared, Progress

__all__ = ["WorkerGroup", "rank_bundles"]


def rank_bundles(config: Config) -> list[dict[str, float]]:
    """What each rank asks of Ray."""
    resources = config.resources
    bundle: dict[str, float] = {"CPU": resources.cpus_per_rank}
    if resources.gpus_per_rank:
        bundle["GPU"] = resources.gpus_per_rank
    return [dict(bundle) for _ in range(config.parallel.ranks)]


class _Rank:
    """The actor: imports torch in its own process, never in the one that creates it."""

    def __init__(self, rank: int, ranks: int, threads: int, accelerator: str) -> None:
        began = time.time()
        from sweeper.train.worker import RankWorker, free_port

        self._worker = RankWorker(rank, ranks, threads, accelerator, began=began)
        self._free_port = free_port

    def meeting_point(self) -> tuple[str, int]:
        return ray.util.get_node_ip_address(), self._free_port()

    def join(self, address: str, port: int) -> str:
        self._worker.join(address, port)
        return str(ray.util.get_node_ip_address())

    def call(self, method: str, *arguments: Any) -> Any:
        calls: dict[str, Callable[..., Any]] = {
            "prepare": self._worker.prepare,
            "advance": self._worker.advance,
            "checkpoint": self._worker.checkpoint,
            "save_model": self._worker.save_model,
            "stop": self._worker.stop,
            "grown": self._worker.grown,
        }
        return calls[method](*arguments)


class WorkerGroup:
    """Implements Engine over rank actors that stay alive from trial to trial.

    Each call goes to every rank and returns what rank 0 said. An exception of any rank is raised
    here as it was when it is one of this package's, else as TrialFailedError with its text.
    """

    def __init__(self, config: Config, placement: PlacementGroup | None, *, first_bundle: int = 0) -> None:
        self.ranks = config.parallel.ranks
        resources = config.resources
        accelerator = "cuda" if resources.gpus_per_rank else "cpu"
        actor = ray.remote(_Rank)
        self._actors = []
        for rank in range(self.ranks):
            strategy = (
                PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=first_bundle + rank)
                if placement
                else "DEFAULT"
            )
            options = actor.options(
                num_cpus=resources.cpus_per_rank,
                num_gpus=resources.gpus_per_rank,
                scheduling_strategy=strategy,
            )
            self._actors.append(options.remote(rank, self.ranks, resources.cpus_per_rank, accelerator))
        address, port = _get(self._actors[0].meeting_point.remote())
        _get([actor.join.remote(address, port) for actor in self._actors])

    def prepare(self, job: Job) -> Prepared:
        return cast(Prepared, self._all("prepare", job))

    def advance(self) -> Progress:
        return cast(Progress, self._all("advance"))

    def checkpoint(self, folder: Path) -> None:
        self._all("checkpoint", folder)

    def save_model(self, folder: Path, merge: bool = False) -> None:
        self._all("save_model", folder, merge)

    def stop(self) -> None:
        self._all("stop")

    def grown(self) -> bool:
        """Whether a rank has grown so much since its first trial that the processes should be replaced."""
        return any(_get([actor.call.remote("grown") for actor in self._actors]))

    def shut_down(self) -> None:
        """End the processes."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _all(self, method: str, *arguments: Any) -> Any:
        return _get([actor.call.remote(method, *arguments) for actor in self._actors])[0]


def _get(references: Any) -> Any:
    """ray.get, with the exception that was raised in the actor instead of Ray's wrapper around it."""
    try:
        return ray.get(references)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SweeperError):
            raise cause from None
        raise TrialFailedError(f"{type(cause).__name__}: {cause}") from error
    except ray.exceptions.RayActorError as error:
        raise TrialFailedError(f"a rank died: {str(error).splitlines()[0]}") from error
