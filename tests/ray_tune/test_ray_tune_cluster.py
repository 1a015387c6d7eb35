"""Which Ray a command uses, what it leaves alone, and what it says when there is none to be had."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from waiting import HANGS_AFTER_S

from sweeper.space import cluster_address

pytestmark = pytest.mark.slow

USE_RAY = """
import json, os, sys
from types import SimpleNamespace
import ray
from sweeper.ray_tune.cluster import ray_for
from sweeper.errors import UserError
from sweeper.space import Parallel

def config(dp=1, cpus=1, gpus=0, address=None, least=None, placement="pack", env=()):
    resources = SimpleNamespace(
        ray_address=address, cpus_per_rank=cpus, gpus_per_rank=gpus, min_free_gib=least, env=env,
        placement=placement,
    )
    return SimpleNamespace(resources=resources, parallel=Parallel(dp=dp))

def refused(**asked):
    try:
        with ray_for(config(**asked), places=1, say=lambda text: None):
            return None
    except UserError as error:
        return str(error)
"""


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process that has USE_RAY and prints one line of JSON at its end."""
    return subprocess.Popen(
        [sys.executable, "-c", USE_RAY + script],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | environment,
    )


def result(process: subprocess.Popen[str]) -> object:
    said, _ = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1])


LOCAL = """
import psutil
from ray import tune  # imported before, as a notebook may have done

said, here = [], config(address=os.environ.get("WRITTEN"), gpus=1, least=20)
with ray_for(here, places=1, say=said.append):
    address = ray.get(ray.remote(ray.util.get_node_ip_address).remote())
    niceness = [os.nice(0), ray.get(ray.remote(lambda: os.nice(0)).remote())]
    gpus = ray.get(ray.remote(num_gpus=1)(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).remote())
    me = psutil.Process()
    sockets = [
        (process.name(), socket.laddr.ip)
        for process in (me, *me.children(recursive=True))
        for socket in process.net_connections(kind="inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    numbers = ray.cluster_resources()["GPU"]
    commands = [process.cmdline() for process in me.children(recursive=True)]
print(json.dumps(dict(
    address=address, sockets=sockets, commands=commands, niceness=niceness, said=said, gpus=[numbers, gpus],
    left=os.environ.get("CUDA_VISIBLE_DEVICES"),
)))
"""
STALE = "192.0.2.77:6379"


@pytest.fixture(scope="module")
def found(fake_gpus):
    """Of a Ray of this machine's own, where a cluster that was killed long ago has left its address."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # sockets want a short path
        left = Path(folder, "ray", "ray_current_cluster")
        left.parent.mkdir()
        left.write_text(STALE)
        yield {**result(start(LOCAL, RAY_TMPDIR=folder, PATH=fake_gpus)), "address file": left.read_text()}


def test_a_ray_of_this_machines_own_listens_on_127_0_0_1_only(found):
    assert found["address"] == "127.0.0.1"
    assert {"raylet", "gcs_server"} <= {name for name, _ in found["sockets"]}
    assert {ip.removeprefix("::ffff:") for _, ip in found["sockets"]} == {"127.0.0.1"}


def test_it_starts_nobody_who_prints_logs_or_adds_nodes(found):
    scripts = {Path(part).name for command in found["commands"] for part in command}
    assert "raylet" in scripts and not {"monitor.py", "log_monitor.py"} & scripts


def test_its_workers_have_the_priority_of_a_process_that_is_started_by_hand(found):
    ours, workers = found["niceness"]
    assert workers == ours


def test_what_a_killed_cluster_has_left_behind_is_neither_joined_nor_changed(found):
    assert (found["address"], found["address file"]) == ("127.0.0.1", STALE)


def test_its_ranks_see_the_gpus_with_memory_free_only_and_the_driver_as_before(found):
    assert found["said"] == ["starting Ray", "using GPU 1 (38.0 GiB free)"]
    assert found["gpus"] == [1, "GPU-1aaa"]
    assert found["left"] is None


def test_local_means_this_machine_whatever_the_environment_names_and_a_neighbours_ray_is_left_alone(
    two_nodes, fake_gpus
):
    def state() -> dict[str, str]:
        folder = two_nodes.folder / "ray"
        files = [folder / "ray_current_cluster", folder / "session_latest"]
        return {path.name: str(path.readlink()) if path.is_symlink() else path.read_text() for path in files}

    before = state()
    environment = {"RAY_ADDRESS": two_nodes.address, "RAY_TMPDIR": str(two_nodes.folder)}
    assert result(start(LOCAL, WRITTEN="local", PATH=fake_gpus, **environment))["address"] == "127.0.0.1"
    assert state() == before
    there = """
with ray_for(config(), places=1, say=lambda text: None):
    print(json.dumps(len(ray.nodes())))
"""
    assert result(start(there, **environment, **two_nodes.token)) == 2


def test_what_can_never_be_placed_is_refused_with_the_numbers(two_nodes):
    script = """
asked = [dict(dp=2), dict(dp=3), dict(cpus=2), dict(gpus=1), dict(gpus=0.25, dp=2)]
asked += [dict(dp=2, placement="strict_pack"), dict(env=("NOT_SET_HERE",))]
print(json.dumps([refused(**one) for one in asked]))
"""
    fits, ranks, cpus, gpus, shares, strict, unset = result(
        start(script, RAY_ADDRESS=two_nodes.address, **two_nodes.token)
    )
    assert fits is None
    assert "3 ranks of 1 CPU each: a trial can never be placed" in ranks
    assert "room for 2 on 2 nodes (1 CPU, 1 CPU)\n    -> lower parallel.dp, or add nodes" in ranks
    assert "1 rank of 2 CPUs" in cpus and "-> lower resources.cpus_per_rank, or add nodes" in cpus
    assert "1 rank of 1 CPU and 1 GPU" in gpus and "-> lower resources.gpus_per_rank" in gpus
    assert "2 ranks of 1 CPU and 0.25 GPUs each" in shares and "room for 0" in shares
    assert "room for 1 on one of 2 nodes" in strict and "or take out placement: strict_pack" in strict
    assert "-> export NOT_SET_HERE=..., or take it out" in unset


def test_a_cluster_that_asks_for_a_token_says_so(two_nodes, tmp_path):
    script = f"print(json.dumps(refused(address='{two_nodes.address}')))"
    environments = [
        {},
        {"RAY_AUTH_MODE": "token"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "e" * 64},
    ]
    few = {"HOME": str(tmp_path), "RAY_NUM_REDIS_GET_RETRIES": "1"}  # Ray tries twenty times, once a second
    at_work = [start(script, **few, **one) for one in environments]
    no_mode, none, wrong = map(result, at_work)
    assert (
        f"resources.ray_address: {two_nodes.address}: asks for a token, and RAY_AUTH_MODE is not" in no_mode
    )
    assert "none is set here" in none
    assert "is not the cluster's" in wrong
    assert all(
        "-> set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what" in one for one in (no_mode, none, wrong)
    )


def test_an_address_where_no_cluster_answers_is_refused_at_once_by_the_name_that_gave_it():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        address = f"127.0.0.1:{port}"

        def answer_in_http_1() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer_in_http_1, daemon=True).start()
        script = """
print(json.dumps([refused(), refused(address="127.0.0.1:1"), refused(address="ray://127.0.0.1:10001")]))
"""
        named, written, client = result(start(script, RAY_ADDRESS=address))
    assert f"RAY_ADDRESS: {address}: cannot be reached (what answers at " in named
    assert f":{port} is not the head of a Ray cluster)" in named
    assert "unset the variable; `ray_address: local` under resources runs on this machine" in named
    assert "resources.ray_address: 127.0.0.1:1: cannot be reached (" in written
    assert ":1: [Errno 111] Connection refused)" in written
    assert "take the key out" in written
    assert "ray job submit" in client


def test_a_local_ray_that_cannot_start_says_why_and_what_to_set(tmp_path):
    long = "/tmp/" + "x" * 90
    script = f"""
said = []
for name, value in [
    ("RAY_AUTH_TOKEN_PATH", "/proc/none"),
    ("HOME", "/proc/none"),
    ("RAY_TMPDIR", "/proc/none"),
    ("RAY_TMPDIR", "{long}"),
]:
    before = os.environ.get(name)
    os.environ[name] = value
    said.append(refused())
    os.environ.pop(name) if before is None else os.environ.update({{name: before}})
print(json.dumps(said))
"""
    told = result(start(script, HOME=str(tmp_path)))
    assert all(one.startswith("the local Ray: ") and "it did not start (" in one for one in told)
    assert not any("ray start" in one for one in told)
    token, home, folder, path = told
    assert "RAY_AUTH_TOKEN_PATH=/proc/none" in token and "unset the variable" in token
    assert "HOME=/proc/none" in home and "set HOME to a folder that can be written" in home
    assert "RAY_TMPDIR=/proc/none" in folder and "set RAY_TMPDIR to a folder that can be written" in folder
    assert f"RAY_TMPDIR={long}" in path and "107 bytes" in path and "shorter path" in path


@pytest.mark.parametrize(
    ("written", "named", "meant"),
    [
        (None, None, None),
        (None, "", None),
        (None, "local", None),
        (None, "host:6379", ("host:6379", "RAY_ADDRESS")),
        ("local", "host:6379", None),
        ("other:6379", "host:6379", ("other:6379", "resources.ray_address")),
        ("auto", None, ("auto", "resources.ray_address")),
    ],
)
def test_the_file_names_the_cluster_and_else_the_environment_does(monkeypatch, written, named, meant):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named is not None:
        monkeypatch.setenv("RAY_ADDRESS", named)
    found = cluster_address(written)
    assert (found and (found.address, found.where)) == meant
