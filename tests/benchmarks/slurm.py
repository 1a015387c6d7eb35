"""The batch script of docs/cluster.md on a real Slurm: a controller and two nodes on this machine, each with
an address, a name and processes of its own.

    apt-get install slurm-wlm munge
    python tests/benchmarks/slurm.py --log /tmp/requeued.txt      # Linux, as root: see hosts.py

The job is preempted in the middle of a trial, twice: by Slurm, which kills it and puts it back, and by the
warning that the script asks for. It has to come back by itself and to go on; ``--log`` keeps what the job
said. Prints what was looked at; exits with 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster import BIN, QUIET, TOKEN, evaluations, hosts_of_ranks, states, write_space
from hosts import Host, Network, say_and_judge
from random_kills import trials_of

from sweeper.space import SweepFolder

DOCS = Path(__file__).parents[2] / "docs/cluster.md"
WITHIN_S = 600.0
_CONFIGURATION = """
ClusterName=bench
SlurmctldHost=head({head})
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/state
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MessageTimeout=60
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--log", type=Path, help="where the job's output is kept")
    log = parser.parse_args().log
    if shutil.which("slurmctld") is None:
        raise SystemExit("Slurm is not installed: apt-get install slurm-wlm munge")
    private = [Path("/run"), Path("/var/log"), Path("/var/spool")]
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="slurm-") as folder:
        work = Path(folder)
        with Network(work, private=private) as network:
            head = start_slurm(network, work)
            try:
                seen = requeued_sweep(head, work)
            finally:
                said = (work / "sweep.txt").read_text() if (work / "sweep.txt").exists() else ""
                if log is not None:
                    log.write_text(said)
    return say_and_judge(seen)


def requeued_sweep(head: Host, work: Path) -> dict[str, bool]:
    write_space(work, trials=3, evaluations=4, epochs=4)
    script = work / "sweep.sbatch"
    script.write_text(batch_script())
    variables = {**TOKEN, **QUIET, "PYTHONPATH": str(DOCS.parents[1]), "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = ("sbatch", "--parsable", f"--chdir={work}", f"--output={work / 'sweep.txt'}", script)
    job = head.run(*command, variables=variables).strip()

    until(lambda: evaluations(work) >= 2, head, job)
    before = {one.number: one for one in trials_of(SweepFolder(work / "sweep")) if one.state.is_finished}
    head.run("scontrol", "requeue", job)
    until(lambda: "PENDING" in head.run("scontrol", "show", "job", job), head, job)
    head.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    kept = evaluations(work)
    until(lambda: evaluations(work) >= kept + 2, head, job)

    head.run("scancel", "--batch", "--signal=USR1", job)
    until(lambda: "PENDING" in head.run("scontrol", "show", "job", job), head, job)
    head.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    until(lambda: "JobState=COMPLETED" in head.run("scontrol", "show", "job", job), head, job)
    shown, trials, said = (
        head.run("scontrol", "show", "job", job),
        trials_of(SweepFolder(work / "sweep")),
        job_output(work),
    )
    return {
        f"the job was put back twice ({re.findall('Restarts=[0-9]+', shown)})": "Restarts=2" in shown,
        f"all trials are complete ({states(trials)})": states(trials) == "COMPLETE COMPLETE COMPLETE",
        "what was finished before stayed": all(
            before[one.number] == one for one in trials if one.number in before
        ),
        "it went on, twice": len(re.findall("going on: ", said)) == 2,
        "when it was warned, the trials wrote their states": "stopping: running trials write" in said,
        "both nodes trained": hosts_of_ranks(work) == {"node1", "node2"},
    }


def batch_script() -> str:
    """As it stands in the docs, for nodes of one CPU."""
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    return script.replace("--min-nodes", "--num-cpus=1 --min-nodes")


def job_output(work: Path) -> str:
    return (work / "sweep.txt").read_text(errors="replace")


def start_slurm(network: Network, work: Path) -> Host:
    head, *nodes = (network.add(name) for name in ("head", "node1", "node2"))
    names = "".join(f"{one.address} {one.name}\n" for one in (head, *nodes))
    (work / "etc-hosts").write_text(f"127.0.0.1 localhost\n{names}")
    lines = "\n".join(f"NodeName={one.name} NodeAddr={one.address} CPUs=2 State=UNKNOWN" for one in nodes)
    (work / "slurm.conf").write_text(_CONFIGURATION.format(head=head.address, nodes=lines))
    (work / "munge.key").write_bytes(os.urandom(128))
    (work / "munge.key").chmod(0o600)
    os.environ["SLURM_CONF"] = str(work / "slurm.conf")
    for host in (head, *nodes):
        host.run("mount", "--bind", work / "etc-hosts", "/etc/hosts")
        host.run("mkdir", "-p", "/run/munge", "/var/log/munge", "/var/spool/state", "/var/spool/slurmd")
        own = ("--seed-file=/run/munge/seed", f"--key-file={work / 'munge.key'}")
        host.run("munged", "--force", *own)
        host.start("slurmctld" if host is head else "slurmd", "-D", log=work / f"{host.name}.log")
    deadline = time.monotonic() + WITHIN_S
    while head.run("sh", "-c", "sinfo -h -o '%D %t' || true").strip() != "2 idle":
        if time.monotonic() > deadline:
            raise SystemExit("Slurm did not come up")
        time.sleep(0.5)
    return head


def until(holds: Callable[[], bool], head: Host, job: str) -> None:
    """Raises SystemExit where it does not come to it."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not come to that:\n{head.run('scontrol', 'show', 'job', job)}")
        time.sleep(0.3)


if __name__ == "__main__":
    sys.exit(main())
