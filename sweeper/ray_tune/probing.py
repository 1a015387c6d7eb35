"""What every probe of a driver has in common: its processes, its job, and what a rank of it may take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.space import Config, SweepFolder
from sweeper.train import Job

if TYPE_CHECKING:
    from sweeper.train.ranks.group import WorkerGroup

__all__ = ["limit_gib", "new_group", "probe_job"]

_HELD_OUT_ROWS = 32
"""Enough to time an evaluation."""


def new_group(
    config: Config, say: Callable[[str], None], *, pause_wanted: Callable[[], bool] = lambda: False
) -> WorkerGroup:
    """The processes of one trial, once there is room for them; what they wait for is said.

    Raises what WorkerGroup does, and KeyboardInterrupt where a pause is wanted while there is no room.
    """
    from ray.util.placement_group import remove_placement_group

    from sweeper.ray_tune.free_resources import reserve
    from sweeper.train.ranks.group import WorkerGroup

    placement = reserve(config, say, is_over=pause_wanted)
    return WorkerGroup(
        config, placement, pause_wanted=pause_wanted, release=lambda: remove_placement_group(placement)
    )


def probe_job(config: Config, folder: SweepFolder, data_dir: Path, *, log: str, limit_gib: float) -> Job:
    """A probe that takes more than its limit is told so by the allocator, before the kernel would end
    something."""
    resources = config.resources.model_copy(update={"memory_limit_gib": limit_gib})
    return Job(
        config=config.model_copy(update={"resources": resources}),
        cache_dir=folder.cache_dir.absolute(),
        data_dir=data_dir,
        log_file=(folder.logs_dir / log).absolute(),
        processes=folder.processes_dir.absolute(),
        held_out_rows=_HELD_OUT_ROWS,
    )


def limit_gib(config: Config, *, places: int, idle_gib: float, free_gib: float) -> float:
    """What a rank may have, its idle process included, while so many trials are at work side by side.

    Args:
        idle_gib: of one idle rank.
        free_gib: for all ranks on a device, beside the idle ranks of one trial.
    """
    resources, ranks = config.resources, config.parallel.ranks
    if resources.gpus_per_rank:
        limit = free_gib * min(1.0, resources.gpus_per_rank)
    else:
        limit = (free_gib + ranks * idle_gib) / (ranks * places)
    return min(limit, resources.memory_limit_gib or limit)
