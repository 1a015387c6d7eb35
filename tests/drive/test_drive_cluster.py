"""A Ray of this machine's own cannot be reached from another one."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, os
from types import SimpleNamespace
import psutil, ray
from ray import tune  # imported before, as a notebook may have done
from sweeper.drive.cluster import ray_for

resources = SimpleNamespace(ray_address=None, cpus_per_rank=1)
config = SimpleNamespace(resources=resources, parallel=SimpleNamespace(ranks=1))
with ray_for(config, places=1):
    address = ray.get(ray.remote(ray.util.get_node_ip_address).remote())
    me = psutil.Process()
    sockets = [
        (process.name(), socket.laddr.ip)
        for process in (me, *me.children(recursive=True))
        for socket in process.net_connections(kind="inet")
        if socket.status == psutil.CONN_LISTEN
    ]
print(json.dumps({"address": address, "sockets": sockets}))
"""


def test_a_ray_of_this_machines_own_listens_on_127_0_0_1_only():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["address"] == "127.0.0.1"
    assert {"raylet", "gcs_server"} <= {name for name, _ in found["sockets"]}
    assert {ip.removeprefix("::ffff:") for _, ip in found["sockets"]} == {"127.0.0.1"}
