"""What a cluster's nodes have for a sweep, before it is begun."""

from __future__ import annotations

from sweeper.errors import UserError
from sweeper.ray_tune.cluster import ray_for, ray_request
from sweeper.space import Space, cluster_address

__all__ = ["room_on_nodes"]


def room_on_nodes(space: Space) -> list[tuple[str, str]]:
    """A row of the plan: how many trials the nodes of the cluster that is meant have room for.

    Raises UserError where no cluster is named, and what ``ray_for`` raises.
    """
    config, places = ray_request(space)
    cluster = cluster_address(config.resources.ray_address)
    if cluster is None:
        raise UserError.of(
            where="resources.ray_address",
            value="",
            rule="no Ray cluster is named, neither here nor by RAY_ADDRESS",
            remedy="name one, or leave --nodes out",
        )
    with ray_for(config, places=places, say=lambda _: None, folder=space.sweep_dir):
        from sweeper.ray_tune.free_resources import Places

        room = Places(config, None, lambda _: None)()
    return [("nodes", f"{cluster.address}: each sees the files; room for {room} trials side by side")]
