"""A real Ray cluster of two nodes with one CPU each on this machine, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from waiting import HANGS_AFTER_S

__all__ = ["TOKEN", "TwoNodes"]

TOKEN = "f" * 64

_SCRIPT = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class TwoNodes:
    """It asks for a token, and its folder for temporary files holds ``ray_current_cluster`` with its address.

    A context manager; its processes end with the one that it was made in.
    """

    def __enter__(self) -> TwoNodes:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets want a short path
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"RAY_TMPDIR": str(self.folder)} | self.token,
        )
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the cluster did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=HANGS_AFTER_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def token(self) -> dict[str, str]:
        """What a client's environment needs."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
