"""Room for a trial's ranks in Ray: whether there can be any, and waiting until there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from sweeper.errors import UserError
from sweeper.space import Config
from sweeper.training.ranks.group import rank_bundles

__all__ = ["RoomWatch", "ranks_with_room", "require_room", "reserve", "trials_with_room"]

_FIRST_AFTER_S, _EVERY_S, _LOOK_EVERY_S = 3.0, 60.0, 1.0
_ROUNDING = 1e-9
_KINDS = ("CPU", "GPU")

Resources = Mapping[str, float]
"""Of a node or a bundle: ``CPU``, ``GPU`` and others, to how many."""


def require_room(config: Config, where: str) -> None:
    """Raises UserError where no trial like this could ever be placed, with the numbers asked and there.

    A cluster that adds nodes when they are needed (Ray's autoscaler) may still get room.
    """
    nodes, bundle, ranks = _nodes(), rank_bundles(config)[0], config.parallel.ranks
    room = ranks_with_room(nodes, bundle)
    if room >= ranks or _adds_nodes():
        return
    asked = f"{ranks} rank{'s' * (ranks > 1)} of {_counted(bundle)}{' each' * (ranks > 1)}"
    there = f"{len(nodes)} node{'s' * (len(nodes) > 1)} ({', '.join(map(_counted, nodes))})"
    raise UserError.of(
        where=where,
        value=asked,
        rule=f"a trial can never be placed: of such ranks there is room for {room} on {there}",
        remedy=f"lower {' or '.join(_to_lower(config, nodes))}, or add nodes",
    )


def _to_lower(config: Config, nodes: Sequence[Resources]) -> list[str]:
    """The fields that ask for too much: of one rank where no node can hold one, else of all ranks."""
    asked = rank_bundles(config)[0]
    too_much = [kind for kind, count in asked.items() if not any(_times(node, kind, count) for node in nodes)]
    if too_much:
        return [f"resources.{kind.lower()}s_per_rank" for kind in too_much]
    ranks = [f"parallel.{name}" for name, count in config.parallel if count > 1]
    return ranks + [f"resources.{kind.lower()}s_per_rank" for kind, count in asked.items() if count > 1]


def trials_with_room(config: Config, wanted: int) -> int:
    """How many of the wanted trials like this the nodes can hold side by side, if nobody else uses them."""
    if _adds_nodes():
        return wanted
    return min(wanted, ranks_with_room(_nodes(), rank_bundles(config)[0]) // config.parallel.ranks)


def ranks_with_room(nodes: Sequence[Resources], bundle: Resources) -> int:
    """Ranks that the nodes can hold; each lies on one node, and a share of a GPU on one GPU."""
    return sum(min(_times(node, kind, asked) for kind, asked in bundle.items()) for node in nodes)


def _times(node: Resources, kind: str, asked: float) -> int:
    there = node.get(kind, 0.0)
    if kind == "GPU" and asked < 1:
        return int(there) * int(1 / asked + _ROUNDING)
    return int(there / asked + _ROUNDING)


def _nodes() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _adds_nodes() -> bool:
    from ray._private.state import state

    return state.get_max_resources_from_cluster_config() is not None


def reserve(
    config: Config, say: Callable[[str], None], *, is_over: Callable[[], bool] = lambda: False
) -> PlacementGroup:
    """Room for the ranks of one trial, all or none; to be given back with ``remove_placement_group``.

    What it waits for is said every minute. Raises KeyboardInterrupt where ``is_over`` says so before.
    """
    placement, watch = placement_group(rank_bundles(config), strategy="PACK"), RoomWatch(say)
    try:
        while not placement.wait(_LOOK_EVERY_S):
            if is_over():
                raise KeyboardInterrupt
            watch.look()
    except BaseException:
        remove_placement_group(placement)
        raise
    return placement


class RoomWatch:
    """Says what this driver waits for, at first after a few seconds and then every minute."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._next_s: float | None = None

    def look(self) -> None:
        """To be called again and again while something waits."""
        now = self._clock()
        if self._next_s is None:
            self._next_s = now + _FIRST_AFTER_S
        if now < self._next_s:
            return
        asked = _asked_in_vain()
        self._next_s = now + (_EVERY_S if asked else _LOOK_EVERY_S)
        if asked:
            self._say(_waiting(asked, ray.available_resources()))

    def reset(self) -> None:
        """Nothing waits any more."""
        self._next_s = None


def _asked_in_vain() -> dict[str, float]:
    """What this driver's placement groups ask that are not placed; nothing where all of them are.

    An id ends with that of the job that it belongs to (Ray's ``PlacementGroupID``).
    """
    job = ray.get_runtime_context().get_job_id()
    asked: dict[str, float] = {}
    for group in placement_group_table().values():
        if group["placement_group_id"].endswith(job) and group["state"] in ("PENDING", "RESCHEDULING"):
            for bundle in group["bundles"].values():
                for kind, count in bundle.items():
                    asked[kind] = asked.get(kind, 0.0) + count
    return asked


def _waiting(asked: Resources, free: Resources) -> str:
    """``waiting for 2 CPUs; 1 free``."""
    if list(asked) == ["CPU"]:
        left = f"{free.get('CPU', 0.0):g} free"
    else:
        left = f"{_counted({kind: free.get(kind, 0.0) for kind in asked})} free"
    is_scattered = all(free.get(kind, 0.0) >= count for kind, count in asked.items())
    return f"waiting for {_counted(asked)}; {left}{', scattered over the nodes' * is_scattered}"


def _counted(resources: Resources) -> str:
    """``2 CPUs and 1 GPU``; a node without GPUs has none to speak of."""
    told = [
        f"{resources[kind]:g} {kind}{'s' * (resources[kind] != 1)}" for kind in _KINDS if kind in resources
    ]
    return " and ".join(told) or "0 CPUs"
