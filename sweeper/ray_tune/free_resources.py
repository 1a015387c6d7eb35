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
from sweeper.training.ranks.group import placement_strategy, rank_bundles

__all__ = ["Places", "RoomWatch", "ranks_with_room", "require_room", "reserve", "trials_in"]

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
    if trials_in(nodes, config) or _most_resources() is not None:
        return
    remedy = f"lower {' or '.join(_to_lower(config, nodes))}, or add nodes"
    room, where_to = ranks_with_room(nodes, bundle), "on"
    if room >= ranks:  # not on one of them, as it is asked
        room, where_to = max(ranks_with_room([node], bundle) for node in nodes), "on one of"
        remedy += ", or take out placement: strict_pack"
    asked = f"{ranks} rank{'s' * (ranks > 1)} of {_counted(bundle)}{' each' * (ranks > 1)}"
    there = f"{len(nodes)} node{'s' * (len(nodes) > 1)} ({', '.join(map(_counted, nodes))})"
    raise UserError.of(
        where=where,
        value=asked,
        rule=f"a trial can never be placed: of such ranks there is room for {room} {where_to} {there}",
        remedy=remedy,
    )


def _to_lower(config: Config, nodes: Sequence[Resources]) -> list[str]:
    """The fields that ask for too much: of one rank where no node can hold one, else of all ranks."""
    asked = rank_bundles(config)[0]
    too_much = [kind for kind, count in asked.items() if not any(_times(node, kind, count) for node in nodes)]
    if too_much:
        return [f"resources.{kind.lower()}s_per_rank" for kind in too_much]
    ranks = [f"parallel.{name}" for name, count in config.parallel if count > 1]
    return ranks + [f"resources.{kind.lower()}s_per_rank" for kind, count in asked.items() if count > 1]


class Places:
    """How many trials there may be side by side, if nobody else uses the nodes: as many as there is room for
    at the moment, also where nodes have come or gone, and no more than are wanted."""

    def __init__(
        self,
        config: Config,
        wanted: int | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``config`` is the largest trial. ``wanted`` None: as many as there is room for."""
        self._config, self._wanted, self._say, self._clock = config, wanted, say, clock
        self._places: int | None = None
        self._look_s = 0.0

    def __call__(self) -> int:
        """One at least: a trial without a place waits, and says for what."""
        now = self._clock()
        if self._places is None or now >= self._look_s:
            self._look_s = now + _LOOK_EVERY_S
            self._take(max(1, self._room()))
        assert self._places is not None
        return self._places

    def _room(self) -> int:
        if (most := _most_resources()) is not None:
            return trials_in([most], self._config) if self._wanted is None else self._wanted
        room = trials_in(_nodes(), self._config)
        return room if self._wanted is None else min(room, self._wanted)

    def _take(self, places: int) -> None:
        if places == self._places:
            return
        is_less = self._wanted is not None and places < self._wanted
        trials = "one trial at a time" if places == 1 else f"{places} trials side by side"
        if is_less or self._wanted is None or self._places is not None:
            self._say(f"Ray has room for {trials}{f', not for {self._wanted}' * is_less}")
        self._places = places


def trials_in(nodes: Sequence[Resources], config: Config) -> int:
    """How many trials like this such nodes can hold side by side."""
    bundle, ranks = rank_bundles(config)[0], config.parallel.ranks
    if placement_strategy(config) == "STRICT_PACK":
        return sum(ranks_with_room([node], bundle) // ranks for node in nodes)
    return ranks_with_room(nodes, bundle) // ranks


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


def _most_resources() -> Resources | None:
    """What a cluster that adds nodes when they are needed may come to; None of one that does not."""
    from ray._private.state import state

    most: Resources | None = state.get_max_resources_from_cluster_config()
    return most


def reserve(
    config: Config, say: Callable[[str], None], *, is_over: Callable[[], bool] = lambda: False
) -> PlacementGroup:
    """Room for the ranks of one trial, all or none; to be given back with ``remove_placement_group``.

    What it waits for is said every minute. Raises KeyboardInterrupt where ``is_over`` says so before.
    """
    placement, watch = placement_group(rank_bundles(config), placement_strategy(config)), RoomWatch(say)
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
    """Says what this driver waits for, at first after a few seconds and then every minute: places for trials
    that have none yet, or have lost a node."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._look_s = -_LOOK_EVERY_S
        self._say_s: float | None = None
        """When to say it, while something waits."""

    def look(self) -> None:
        """To be called again and again."""
        now = self._clock()
        if now < self._look_s:
            return
        self._look_s = now + _LOOK_EVERY_S
        asked = _asked_in_vain()
        if not asked:
            self._say_s = None
        elif self._say_s is None:
            self._say_s = now + _FIRST_AFTER_S
        elif now >= self._say_s:
            self._say_s = now + _EVERY_S
            self._say(_waiting(asked, ray.available_resources()))


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
