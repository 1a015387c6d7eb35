"""Sweeps on a Ray cluster of several hosts, each with an address, a name, processes and /tmp of its own.

    python tests/benchmarks/cluster.py                 # Linux, as root: see hosts.py
    python tests/benchmarks/cluster.py --only spread,ranks

The head takes no ranks (``--num-cpus 0``), every node asks for a token, and the folder of the sweep is shared
unless it says otherwise. Prints what was looked at and seen; exits with 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hosts import Host, Network, say_and_judge
from random_kills import ends, trials_of

from sweeper.quickstart import DATA_FILE
from sweeper.search import TrialRecord
from sweeper.space import SweepFolder

BIN = Path(sys.prefix) / "bin"
PORT = 6379
WITHIN_S = 300.0
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
QUIET = {"SWEEPER_HISTORY": "off", "SWEEPER_REPORT": "off", "RAY_worker_niceness": "0"}
ENVIRONMENT = {**TOKEN, **QUIET}
_NODE = ("--include-dashboard=false", "--disable-usage-stats", f"--object-store-memory={80 * 2**20}")


def main() -> int:
    from cluster_files import s3, s3_driver, s3_ranks

    SCENES.update({one.__name__: one for one in (s3, s3_ranks, s3_driver)})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {','.join(SCENES)}, those with commas between")
    wanted = [one for one in parser.parse_args().only.split(",") if one] or list(SCENES)
    seen: dict[str, bool] = {}
    for name in wanted:
        with tempfile.TemporaryDirectory(dir="/var/tmp", prefix=f"{name}-") as work:
            began = time.monotonic()
            found = SCENES[name](Path(work))
            print(f"{name} ({time.monotonic() - began:.0f} s)", flush=True)
            say_and_judge(found)
            seen |= {f"{name}: {what}": holds for what, holds in found.items()}
    print(f"{sum(seen.values())} of {len(seen)} hold")
    return 0 if all(seen.values()) else 1


def spread(work: Path) -> dict[str, bool]:
    """Trials of one rank on two nodes."""
    with Network(work) as network:
        head, *nodes = start_ray(network, 1, 1)
        driver = sweep(head, work, trials=4)
        told = finish(driver, work)
        trials = trials_of(SweepFolder(work / "sweep"))
        return {
            f"four trials are complete ({states(trials)})": states(trials) == "COMPLETE " * 3 + "COMPLETE",
            "each node trained some of them, the head none": hosts_of_ranks(work)
            == {one.name for one in nodes},
            "how many there is room for is said": "Ray has room for 2 trials side by side" in told,
        }


def ranks(work: Path) -> dict[str, bool]:
    """A trial of two ranks on two nodes of one CPU; a variable and a secret reach both."""
    with Network(work) as network:
        head, *nodes = start_ray(network, 1, 1)
        secret = "not-for-any-file"
        driver = sweep(
            head,
            work,
            variables={"HUB_TOKEN": secret},
            parallel={"dp": 2},
            resources={"env": ["NCCL_DEBUG=INFO", "HUB_TOKEN"]},
        )
        until(lambda: len(meetings(work, 0)) == 2 and progress(work), driver, work)
        environments = [environment_of_rank(one) for one in nodes]
        finish(driver, work)
        met = meetings(work, 0)
        first = next((host for rank, host, _ in met if rank == "0"), "")
        return {
            "the trial is complete": states(trials_of(SweepFolder(work / "sweep"))) == "COMPLETE",
            f"its two ranks were on two nodes ({met})": {host for _, host, _ in met} == {"node1", "node2"},
            "they met on the node of rank 0": {at for *_, at in met}
            == {one.address for one in nodes if one.name == first},
            "resources.env reached both": all(one.get("NCCL_DEBUG") == "INFO" for one in environments),
            "and so did a secret": all(one.get("HUB_TOKEN") == secret for one in environments),
            "which stands in no file of the sweep": not holding(work / "sweep", secret),
        }


def lost(work: Path) -> dict[str, bool]:
    """A node is lost in the middle of a trial over two, and another one joins."""
    with Network(work) as network:
        head, _, second = start_ray(network, 1, 1)
        driver = sweep(
            head, work, parallel={"dp": 2}, evaluations=6, epochs=8, resources={"max_concurrent": 1}
        )
        until(lambda: evaluations(work) >= 2, driver, work)
        second.kill()
        until(lambda: "waiting for " in said(work), driver, work)
        waited = "waiting for " in said(work)
        join(network.add("node3"), head, 1)
        finish(driver, work)
        trials = trials_of(SweepFolder(work / "sweep"))
        hosts = {host for _, host, _ in meetings(work, 0)}
        reasons = [one["reason"] for trial in trials for one in trial.attributes.get("setbacks", [])]
        setbacks = [f"{one[:60]} ... {one[-60:]}" for one in reasons]
        return {
            "what it waits for is said": waited,
            f"the trial is complete ({states(trials)})": states(trials) == "COMPLETE",
            f"it went on once, from a state ({setbacks})": len(setbacks) == 1,
            f"on the node that joined ({sorted(hosts)})": "node3" in hosts,
            "no evaluation is there twice": no_step_twice(trials),
        }


def driver_killed(work: Path) -> dict[str, bool]:
    """The driver is killed, and the same command goes on with what it had."""
    with Network(work) as network:
        head, *_ = start_ray(network, 1, 1)
        driver = sweep(head, work, trials=2, evaluations=4)
        until(lambda: evaluations(work) >= 2, driver, work)
        before = {one.number: one for one in trials_of(SweepFolder(work / "sweep")) if one.state.is_finished}
        head.run("pkill", "-9", "-f", f"sweeper run.*{work}")
        driver.wait()
        finish(sweep(head, work, trials=2, evaluations=4), work)
        trials = trials_of(SweepFolder(work / "sweep"))
        finish(sweep(head, work, trials=2, evaluations=4, out="undisturbed"), work, "undisturbed")
        return {
            f"both trials are complete ({states(trials)})": states(trials) == "COMPLETE COMPLETE",
            "what was finished stayed": all(
                before[one.number] == one for one in trials if one.number in before
            ),
            "the end is that of a sweep that nobody killed": same_ends(work, "sweep", "undisturbed"),
        }


def unshared(work: Path) -> dict[str, bool]:
    """A node that cannot see the sweep's folder, nor the data: it is refused before anything is trained."""
    data = work / "data"
    data.mkdir()
    with Network(work, private=[data]) as network:
        head, *_ = start_ray(network, 1)
        write_space(work)
        head.run("cp", work / "train.jsonl", data)
        driver = sweep(head, work, data=data / "train.jsonl")
        told = said(work) if driver.wait() else ""
        return {
            "exit status 2": driver.returncode == 2,
            f"the path and the node are named ({told.strip()[-300:]})": str(data) in told and "node1" in told,
            "no trial was begun": not trials_of(SweepFolder(work / "sweep")),
        }


SCENES: dict[str, Callable[[Path], dict[str, bool]]] = {
    one.__name__: one for one in (spread, ranks, lost, driver_killed, unshared)
}
"""Those of cluster_files.py come in ``main``."""


# What they do ------------------------------------------------------------------------------------


def start_ray(network: Network, *cpus: int) -> list[Host]:
    """A head without CPUs, and nodes with so many each."""
    head = network.add("head")
    start_head(head)
    nodes = [network.add(f"node{number}") for number in range(1, len(cpus) + 1)]
    for node, count in zip(nodes, cpus, strict=True):
        join(node, head, count)
    return [head, *nodes]


def start_head(head: Host) -> None:
    own = (f"--node-ip-address={head.address}", f"--port={PORT}", "--num-cpus=0")
    head.run(BIN / "ray", "start", "--head", *own, *_NODE, variables=ENVIRONMENT)


def join(node: Host, head: Host, cpus: int) -> None:
    own = (f"--address={head.address}:{PORT}", f"--node-ip-address={node.address}", f"--num-cpus={cpus}")
    node.run(BIN / "ray", "start", *own, *_NODE[1:], variables=ENVIRONMENT)


def write_space(
    work: Path,
    *,
    trials: int = 1,
    evaluations: int = 3,
    epochs: int = 3,
    data: Path | None = None,
    **sections: Any,
) -> Path:
    """A space file for short trials on the packaged model."""
    rows = data or work / "train.jsonl"
    text = "\n".join(DATA_FILE.read_text(encoding="utf-8").split("\n")[:120])
    (work / "train.jsonl").write_text(text, encoding="utf-8")
    tree = {
        "name": "cluster",
        "model_path": "builtin:quickstart",
        "data_path": str(rows),
        "eval_data": 0.2,
        "training": {
            "lr": {"log_uniform": [1e-4, 1e-2]},
            "epochs": epochs,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        "deepspeed": {"zero_stage": 0, "precision": "fp32"},
        "objective": {"evaluations": evaluations},
        "search": {"trials": trials, "seed": 0, "stopper": "none"},
        **sections,
    }
    tree["resources"] = {"max_concurrent": "auto", "cpus_per_rank": 1, **tree.get("resources", {})}
    file = work / "space.yaml"
    file.write_text(json.dumps(tree))
    return file


def sweep(
    head: Host,
    work: Path,
    *,
    out: str = "sweep",
    log: str = "",
    variables: Mapping[str, str] | None = None,
    **asked: Any,
) -> subprocess.Popen[bytes]:
    """``sweeper run --resume`` on the head: the same command begins a sweep and goes on with it."""
    file = write_space(work, **asked)
    address = {"RAY_ADDRESS": f"{head.address}:{PORT}", "PYTHONPATH": str(Path(__file__).parents[2])}
    return head.start(
        *(sys.executable, "-m", "sweeper", "run", file, "--resume", "--out", work / out),
        variables={**ENVIRONMENT, **address, **(variables or {})},
        log=work / f"{log or out}.txt",
    )


def finish(driver: subprocess.Popen[bytes], work: Path, out: str = "sweep") -> str:
    """What it said in all."""
    status = driver.wait(timeout=2 * WITHIN_S)
    if status:
        raise SystemExit(f"the driver ended with {status}:\n{said(work, out)[-3000:]}")
    return said(work, out)


def until(holds: Callable[[], Any], driver: subprocess.Popen[bytes], work: Path) -> None:
    """Raises SystemExit where it does not come to it."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if driver.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"it did not come to that:\n{said(work)[-3000:]}")
        time.sleep(0.1)


# What they look at -------------------------------------------------------------------------------


def said(work: Path, out: str = "sweep") -> str:
    return (work / f"{out}.txt").read_text(errors="replace")


def states(trials: list[TrialRecord]) -> str:
    return " ".join(one.state.value for one in trials)


def evaluations(work: Path) -> int:
    """Of all trials, the untrained model's not counted."""
    return sum(
        bool(one.tokens) for trial in trials_of(SweepFolder(work / "sweep")) for one in trial.evaluations
    )


def no_step_twice(trials: list[TrialRecord]) -> bool:
    steps = [[one.step for one in trial.evaluations] for trial in trials]
    return all(len(one) == len(set(one)) for one in steps)


def progress(work: Path) -> bool:
    return SweepFolder(work / "sweep").trial_progress(0).exists()


def hosts_of_ranks(work: Path) -> set[str]:
    marks = SweepFolder(work / "sweep").processes_dir.glob("*-*")
    return {one.name.rpartition("-")[0] for one in marks}


def meetings(work: Path, trial: int) -> list[tuple[str, str, str]]:
    """Rank, host and the address where its ranks met, by the logs of a trial."""
    logs = SweepFolder(work / "sweep").trial_dir(trial).glob("log*.txt")
    pattern = re.compile(r"rank (\d+) of \d+ on (\S+), meeting at (\S+):\d+")
    return sorted(set(pattern.findall("".join(one.read_text(errors="replace") for one in logs))))


def environment_of_rank(node: Host) -> dict[str, str]:
    """Of a rank on that host: what it has put in, a debugger would see, and /proc does not; so a child tells,
    which each rank has: the filter of its log."""
    script = "for p in $(pgrep -f sweeper/redact.py); do tr '\\0' '\\n' < /proc/$p/environ; echo; done"
    pairs = (line.partition("=") for line in node.run("sh", "-c", script).splitlines())
    return {name: value for name, sign, value in pairs if sign}


def holding(folder: Path, text: str) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file() and text.encode() in one.read_bytes()]


def same_ends(work: Path, *outs: str) -> bool:
    first, second = (ends_of(SweepFolder(work / out)) for out in outs)
    return first == second


def ends_of(folder: SweepFolder) -> list[Any]:
    os.environ.update(QUIET)
    return ends(folder)


if __name__ == "__main__":
    raise SystemExit(main())
