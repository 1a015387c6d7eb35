"""Which Ray cluster is meant, by the file or by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["LOCAL", "ClusterAddress", "cluster_address"]

LOCAL = "local"
"""What insists on a Ray of this machine's own, as in ``ray.init(address="local")``."""
_VARIABLE = "RAY_ADDRESS"


@dataclass(frozen=True, kw_only=True)
class ClusterAddress:
    """A cluster, and who names it."""

    address: str
    """``auto``, or host:port of the head."""
    where: str
    """The field or the environment variable that names it."""


def cluster_address(written: str | None) -> ClusterAddress | None:
    """The cluster that ``resources.ray_address`` names, else the one that ``RAY_ADDRESS`` does, as Ray's own
    convention has it (it is set inside every job of a Ray cluster); None for a Ray of this machine's own."""
    if written is not None:
        return None if written == LOCAL else ClusterAddress(address=written, where="resources.ray_address")
    named = os.environ.get(_VARIABLE, "")
    return None if named in ("", LOCAL) else ClusterAddress(address=named, where=_VARIABLE)
