"""The processes that a driver trains or probes in, and how much memory a rank may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sweeper.space import Config, environment

if TYPE_CHECKING:
    from sweeper.training.ranks.group import WorkerGroup

__all__ = ["limit_gib", "new_group"]


def new_group(
    config: Config, say: Callable[[str], None], *, pause_wanted: Callable[[], bool] = lambda: False
) -> WorkerGroup:
    """The processes of one trial, once resources are free for them; what they wait for is said.

    Raises what WorkerGroup does, and KeyboardInterrupt where a pause is wanted while none are free.
    """
    from ray.util.placement_group import remove_placement_group

    from sweeper.ray_tune.free_resources import reserve
    from sweeper.training.ranks.group import WorkerGroup

    placement = reserve(config, say, is_over=pause_wanted)
    return WorkerGroup(
        config,
        placement,
        pause_wanted=pause_wanted,
        release=lambda: remove_placement_group(placement),
        variables=environment(config.resources.env),
    )


def limit_gib(config: Config, *, idle_gib: float, free_gib: float) -> float:
    """What a rank may have, its idle process included, while as many trials run as are to run at a time.

    Args:
        idle_gib: of one idle rank.
        free_gib: for all ranks on a device, beside the idle ranks of one trial.
    """
    resources, ranks = config.resources, config.parallel.ranks
    if resources.gpus_per_rank:
        limit = free_gib * min(1.0, resources.gpus_per_rank)
    else:
        limit = (free_gib + ranks * idle_gib) / (ranks * resources.max_concurrent)
    return min(limit, resources.memory_limit_gib or limit)
