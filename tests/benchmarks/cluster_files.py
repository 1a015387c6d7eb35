"""Scenes for cluster.py: hosts that share nothing but an S3, here moto's server on a host of its own."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import cluster
from hosts import Host, Network

from sweeper.space import SweepFolder

__all__ = ["s3", "s3_driver", "s3_ranks"]

SEARCH = {"seed": 0, "stopper": "none", "sampler": "random"}
"""No value depends on which trial ended first."""
ALL_MODELS = {"model": "all"}
BUCKET, S3_PORT = "sweeps", 5000
FILES = f"s3://{BUCKET}/here"
VARIABLES = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]


def s3(work: Path) -> dict[str, bool]:
    """Trials of one rank on two nodes, with a model that only the driver has; a node is lost in mid-trial."""
    with Network(work, private=[made(work / "own")]) as network:
        storage = start_s3(network)
        head, first, second = cluster.start_ray(network, 1, 1)
        asked = asking(trials=4)
        driver = begin(head, work, storage, **asked)
        cluster.until(lambda: evaluations(head, work) >= 5, driver, work)
        second.kill()
        cluster.finish(driver, work)
        own = on(head, work / "own" / "sweep")
        trials = cluster.trials_of(SweepFolder(own))
        setbacks = [one["reason"] for trial in trials for one in trial.attributes.get("setbacks", [])]
        hosts = hosts_in(work)
        undisturbed(head, work, **asked)
        return {
            f"four trials are complete ({cluster.states(trials)})": cluster.states(trials)
            == " ".join(["COMPLETE"] * 4),
            f"both nodes trained ({sorted(hosts)})": {"node1", "node2"} <= hosts,
            f"what the lost node trained went on ({setbacks})": bool(setbacks),
            "losses are those of a shared folder to the last bit": same(work, own),
            "and so are the models": same_models(work, own),
            "nodes have nothing of the driver's folder": not on(first, work / "own" / "sweep").exists(),
        }


def s3_ranks(work: Path) -> dict[str, bool]:
    """A trial of two ranks on two nodes, each of which sends its part of a state; one is lost, and a third
    takes up what both had sent."""
    with Network(work, private=[made(work / "own")]) as network:
        storage = start_s3(network)
        head, _, second = cluster.start_ray(network, 1, 1)
        two_ranks = {"parallel": {"dp": 2}, "deepspeed": {"zero_stage": 2, "precision": "fp32"}}
        asked = asking(trials=1, evaluations=6, epochs=8, **two_ranks)
        driver = begin(head, work, storage, **asked)
        cluster.until(lambda: evaluations(head, work) >= 2, driver, work)
        second.kill()
        third = network.add("node3")
        cluster.join(third, head, 1)
        cluster.finish(driver, work)
        own = on(head, work / "own" / "sweep")
        trials = cluster.trials_of(SweepFolder(own))
        setbacks = [one["reason"] for trial in trials for one in trial.attributes.get("setbacks", [])]
        logs = cluster.meetings(own.parent, 0)
        undisturbed(head, work, **asked)
        return {
            f"the trial is complete ({cluster.states(trials)})": cluster.states(trials) == "COMPLETE",
            f"it went on once, and not from its start ({setbacks})": len(setbacks) == 1
            and SweepFolder(own).trial_steps(0).read_text().count('"step": 1,') == 1,
            f"each rank's log has come ({logs})": {rank for rank, *_ in logs} == {"0", "1"},
            "losses are those of a shared folder to the last bit": same(work, own),
            "and so is the model": same_models(work, own),
        }


def s3_driver(work: Path) -> dict[str, bool]:
    """The driver is killed and its machine with it; the same command on another head goes on."""
    with Network(work, private=[made(work / "own")]) as network:
        storage = start_s3(network)
        head, *nodes = cluster.start_ray(network, 1, 1)
        asked = asking(trials=3)
        driver = begin(head, work, storage, **asked)
        cluster.until(lambda: evaluations(head, work) >= 5, driver, work)
        before = cluster.trials_of(SweepFolder(on(head, work / "own" / "sweep")))
        for host in (head, *nodes):
            host.kill()
        driver.wait()
        other = network.add("head2")
        cluster.start_head(other)
        for name in ("node4", "node5"):
            cluster.join(network.add(name), other, 1)
        told = cluster.finish(begin(other, work, storage, **asked), work)
        own = on(other, work / "own" / "sweep")
        trials = cluster.trials_of(SweepFolder(own))
        ended = {one.number: one for one in before if one.state.is_finished}
        undisturbed(other, work, **asked)
        return {
            "it says that it takes over": "taking over from another machine" in told,
            f"three trials are complete ({cluster.states(trials)})": cluster.states(trials)
            == " ".join(["COMPLETE"] * 3),
            f"what was finished stayed ({sorted(ended)})": all(
                ended[one.number] == one for one in trials if one.number in ended
            ),
            "no evaluation is there twice": cluster.no_step_twice(trials),
            "losses are those of a shared folder to the last bit": same(work, own),
            "and so are the models": same_models(work, own),
        }


# What they do ------------------------------------------------------------------------------------


def start_s3(network: Network) -> dict[str, str]:
    """The environment that finds a server of S3 on a host of its own, with an empty bucket."""
    host = network.add("storage")
    values = [f"http://{host.address}:{S3_PORT}", "testing", "testing", "us-east-1"]
    variables = dict(zip(VARIABLES, values, strict=True))
    log = network.work / "s3.txt"
    host.start(cluster.BIN / "moto_server", "-H", host.address, "-p", S3_PORT, log=log)
    make = f"import boto3; boto3.client('s3').create_bucket(Bucket={BUCKET!r})"
    answers = f"import socket; socket.create_connection(({host.address!r}, {S3_PORT}), 5)"
    deadline = time.monotonic() + cluster.WITHIN_S
    while host.start(sys.executable, "-c", answers).wait() and time.monotonic() < deadline:
        time.sleep(0.5)
    host.run(sys.executable, "-c", make, variables=variables)
    return variables


def asking(*, trials: int, evaluations: int = 4, epochs: int = 4, **sections: Any) -> dict[str, Any]:
    """What write_space takes."""
    return {
        "evaluations": evaluations,
        "epochs": epochs,
        "search": {**SEARCH, "trials": trials},
        "checkpoints": ALL_MODELS,
        **sections,
    }


def begin(head: Host, work: Path, storage: dict[str, str], **asked: Any) -> Any:
    """A sweep in a folder that only the head has, of a model and rows that only the head has."""
    own = work / "own"
    rows = cluster.write_space(work).with_name("train.jsonl")
    head.run("cp", rows, own)
    head.run("cp", "-r", cluster.DATA_FILE.parents[1] / "model", own)
    resources = {"files": FILES, "env": VARIABLES, "max_concurrent": 2}
    asked = {**asked, "resources": resources, "model_path": str(own / "model"), "data": own / "train.jsonl"}
    return cluster.sweep(head, work, out="own/sweep", log="sweep", variables=storage, **asked)


def undisturbed(head: Host, work: Path, **asked: Any) -> None:
    """The same sweep in a folder that all hosts share, where nobody kills anything. Waits for its end."""
    shared = work / "shared"
    shared.mkdir()
    head.run("cp", "-r", work / "own" / "model", shared)
    rows = work / "train.jsonl"
    asked = {**asked, "model_path": str(shared / "model"), "data": rows, "resources": {"max_concurrent": 2}}
    cluster.finish(cluster.sweep(head, work, out="shared/sweep", log="shared", **asked), work, "shared")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# What they look at -------------------------------------------------------------------------------


def on(host: Host, path: Path) -> Path:
    """Where a path in a host's own folders is seen from here."""
    return host.own(path)


def evaluations(head: Host, work: Path) -> int:
    folder = SweepFolder(on(head, work / "own" / "sweep"))
    if not folder.space_file.exists():
        return 0
    return sum(bool(one.tokens) for trial in cluster.trials_of(folder) for one in trial.evaluations)


def hosts_in(work: Path) -> set[str]:
    """Those that ranks were on: they have a copy of the model."""
    copies = (work / "hosts").glob("*/tmp/sweeper-*/copies/*/model")
    return {one.relative_to(work / "hosts").parts[0] for one in copies}


def same(work: Path, own: Path) -> bool:
    return cluster.ends_of(SweepFolder(own)) == cluster.ends_of(SweepFolder(work / "shared" / "sweep"))


def same_models(work: Path, own: Path) -> bool:
    """All that are kept, and at least one is."""
    ours, theirs = (digests(SweepFolder(root)) for root in (own, work / "shared" / "sweep"))
    return bool(ours) and ours == theirs


def digests(folder: SweepFolder) -> dict[str, str]:
    files = folder.trials_dir.glob("*/model/model.safetensors")
    return {one.parts[-3]: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
