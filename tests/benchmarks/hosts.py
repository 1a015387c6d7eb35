"""Hosts on this machine, for benchmarks of what spans several: each has an address, a name, processes and
folders of its own, and can be lost at once. Linux, as root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["Host", "Network", "say_and_judge"]

_SUBNET = "10.77.{number}.{place}"
_SET_UP = """
hostname {name} && ip link set lo up || exit 1
mount --make-rprivate / || exit 1
mount -t tmpfs tmpfs /dev/shm || exit 1
for folder in {folders}; do mkdir -p {own}/$folder && mount --bind {own}/$folder $folder || exit 1; done
touch {own}/ready
exec sleep infinity
"""
_WAIT_S = 60.0


class Host:
    """One host; ``kill`` loses it with all its processes, as a power cut does, and not with its folders."""

    def __init__(self, network: Network, name: str, place: int) -> None:
        self.name, self.address = name, _SUBNET.format(number=network.number, place=place)
        self._network, self._own = network, network.work / "hosts" / name
        self._link = f"swp{network.number}h{place}"
        self._started: list[subprocess.Popen[bytes]] = []
        self._boot()

    def _boot(self) -> None:
        self._own.mkdir(parents=True, exist_ok=True)
        ready = self._own / "ready"
        ready.unlink(missing_ok=True)
        folders = " ".join(["/tmp", *map(str, self._network.private)])
        script = _SET_UP.format(name=self.name, folders=folders, own=self._own)
        unshare = "unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc".split()
        self._outer = subprocess.Popen([*unshare, "sh", "-c", script])
        deadline = time.monotonic() + _WAIT_S
        while not ready.exists():
            if self._outer.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} could not be set up: this needs Linux, and root")
            time.sleep(0.02)
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text()
        self._init = int(children.split()[0])
        _run(
            "ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", str(self._init)
        )
        _run("ip", "link", "set", self._link, "master", self._network.bridge, "up")
        _run(*self.inside("ip", "addr", "add", f"{self.address}/24", "dev", "eth0"))
        _run(*self.inside("ip", "link", "set", "eth0", "up"))

    def own(self, path: Path) -> Path:
        """Where a path in one of its own folders is seen from outside."""
        return self._own / path.relative_to("/")

    def inside(self, *command: object) -> list[str]:
        """The command, as it is given here to run there."""
        enter = ["nsenter", "--target", str(self._init), "--net", "--mount", "--uts", "--ipc", "--pid"]
        return [*enter, f"--wd={Path.cwd()}", *map(str, command)]

    def start(
        self, *command: object, variables: Mapping[str, str] | None = None, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command on the host, in a session of its own; without ``log`` nobody hears what it says."""
        out = subprocess.DEVNULL if log is None else log.open("ab")
        process = subprocess.Popen(
            self.inside(*command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, *command: object, variables: Mapping[str, str] | None = None) -> str:
        """What a command prints there; SystemExit where it fails."""
        done = subprocess.run(
            self.inside(*command),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(variables or {})},
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(map(str, command))}: {done.stdout}{done.stderr}")
        return done.stdout

    def kill(self) -> None:
        """All its processes end at once, and its address is gone."""
        with suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)
        self._outer.wait()
        for process in self._started:
            process.wait()
        self._started.clear()
        subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)

    def boot_again(self) -> None:
        """After ``kill``: the same name, address and folders, and no process."""
        self._boot()


class Network:
    """A bridge with hosts on it; a context manager, after which none of it is left."""

    def __init__(self, work: Path, *, private: Sequence[Path] = ()) -> None:
        """``private`` are folders that each host has for itself, as it has /tmp; all others are shared."""
        self.work, self.private = work.absolute(), tuple(private)
        self.number = os.getpid() % 250 + 1
        self.bridge = f"swp{self.number}"
        self.hosts: list[Host] = []

    def __enter__(self) -> Network:
        _run("ip", "link", "add", self.bridge, "type", "bridge")
        _run("ip", "link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.kill()
        _run("ip", "link", "del", self.bridge)

    def add(self, name: str) -> Host:
        host = Host(self, name, len(self.hosts) + 2)
        self.hosts.append(host)
        return host


def say_and_judge(seen: Mapping[str, bool]) -> int:
    """Prints what was looked at and whether it held; the exit status."""
    for what, holds in seen.items():
        sys.stdout.write(f"{'ok  ' if holds else 'FAIL'}  {what}\n")
    return 0 if all(seen.values()) else 1


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
