"""A Ray of this machine's own: nobody reaches it from another one, and its workers wait for nobody."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
    niceness = [os.nice(0), ray.get(ray.remote(lambda: os.nice(0)).remote())]
    me = psutil.Process()
    sockets = [
        (process.name(), socket.laddr.ip)
        for process in (me, *me.children(recursive=True))
        for socket in process.net_connections(kind="inet")
        if socket.status == psutil.CONN_LISTEN
    ]
print(json.dumps({"address": address, "sockets": sockets, "niceness": niceness}))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_ray_of_this_machines_own_listens_on_127_0_0_1_only(found):
    assert found["address"] == "127.0.0.1"
    assert {"raylet", "gcs_server"} <= {name for name, _ in found["sockets"]}
    assert {ip.removeprefix("::ffff:") for _, ip in found["sockets"]} == {"127.0.0.1"}


def test_its_workers_have_the_priority_of_a_process_that_is_started_by_hand(found):
    ours, workers = found["niceness"]
    assert workers == ours
