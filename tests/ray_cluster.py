"""A real Ray cluster on this machine, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import forked_processes
from waiting import HANGS_AFTER_S
from warm_processes import warm

from sweeper.remote.place import SCRATCH

__all__ = ["TOKEN", "RayCluster"]

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
"""The environment of a cluster that asks for a token, and of those that it lets in."""
_NICENESS = {"RAY_worker_niceness": "0"}
"""As in a Ray of a sweep's own: beside other tests a nice rank would hardly get a core."""

_SCRIPT = """
import json
import sys
from ray.cluster_utils import Cluster

all_cpus, gpus = json.loads(sys.argv[1])
node = {"num_gpus": gpus, "object_store_memory": 80 * 2**20, **json.loads(sys.argv[2])}
node["include_log_monitor"] = False  # it reads all logs every tenth of a second, for nobody
disks = json.loads(sys.argv[3])
nodes = [{**node, "num_cpus": cpus, "env_vars": disk} for cpus, disk in zip(all_cpus, disks)]
first, *others = nodes
cluster = Cluster(initialize_head=True, head_node_args={**first, "include_dashboard": False})
for other in others:
    cluster.add_node(**other)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class RayCluster:
    """Nodes with so many CPUs each, and GPUs (None: those of the machine); its folder for temporary files
    holds ``ray_current_cluster`` with its address, and each of ``disks`` what a node keeps of sweeps whose
    nodes share no files.

    A context manager; its processes end with the one that it was made in. With ``forked`` its workers start
    as copies of one that has imported all that they need (see warm_processes.py), on a machine without GPUs.
    """

    def __init__(
        self, *cpus: int, gpus: int | None = 0, token: Mapping[str, str] | None = None, forked: bool = False
    ) -> None:
        self._nodes, self.token = (cpus, gpus), dict(token or {})
        self.forked = forked and shutil.which("nvidia-smi") is None

    def __enter__(self) -> RayCluster:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets want a short path
        self.disks = [self.folder / f"disk-{number}" for number in range(len(self._nodes[0]))]
        environment = os.environ | {"RAY_TMPDIR": str(self.folder)} | _NICENESS | self.token
        node = {}
        disks = [{SCRATCH: str(disk)} for disk in self.disks]
        if self.forked:
            environment[forked_processes.WORKERS] = warm("ranks")
            node["setup_worker_path"] = forked_processes.__file__
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, *map(json.dumps, (self._nodes, node, disks))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the cluster did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=HANGS_AFTER_S)
        shutil.rmtree(self.folder, ignore_errors=True)
