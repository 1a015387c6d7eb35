"""Rank processes must not outlive the sweep that they work for."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

__all__ = [
    "choose_device",
    "end_with_mark",
    "is_running",
    "kill",
    "leave_mark",
    "marked",
    "out_of_memory_kills",
    "reap",
]

_GONE_WITHIN_S = 10.0
_LOOK_EVERY_S = 2.0

_watched: set[Path] = set()


def choose_device(accelerator: str) -> None:
    """Have this process, which has not imported torch or DeepSpeed yet, compute on ``cpu`` or ``cuda``.

    DeepSpeed chooses when it is imported. A rank on the CPU sees no GPU at all: torch would put a context on
    each when it keeps the state of random generators. On a GPU, cuBLAS repeats its sums to the last bit with
    work spaces of a fixed size only (CUDA's documentation: results reproducibility), and so does flash-attn
    where it is told to.
    """
    os.environ["DS_ACCELERATOR"] = accelerator
    if accelerator == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")


def leave_mark(folder: Path) -> Path:
    """Name this process in a folder, for ``reap``; returns the file that does."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"{socket.gethostname()}-{os.getpid()}"
    mark.write_text(_started(os.getpid()))
    return mark


def end_with_mark(mark: Path) -> None:
    """Have this process end soon after somebody has removed its mark: a driver elsewhere, which takes the
    trial over and cannot kill what is on another host. Where the folder cannot be seen, nothing happens."""
    if mark in _watched:
        return
    _watched.add(mark)

    def watch() -> None:
        while not _is_removed(mark):
            time.sleep(_LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="mark", daemon=True).start()


def marked(folder: Path) -> list[int]:
    """The processes of this host that ``leave_mark`` named, whether they still run or not."""
    return [int(mark.name.rpartition("-")[2]) for mark in folder.glob(f"{socket.gethostname()}-*")]


def is_running(pid: int) -> bool:
    """Whether there is such a process on this host, be it stopped; its remains are none."""
    return _started(pid) != ""


def _is_removed(mark: Path) -> bool:
    try:
        return not mark.exists() and mark.parent.is_dir()
    except OSError:
        return False


def reap(folder: Path) -> list[int]:
    """End the processes that ``leave_mark`` named: those of this host that still run are killed, and returned
    by their ids; those of others find their marks gone, see ``end_with_mark``.

    A process that has got the number of one that is gone is left alone.
    """
    killed = []
    for mark in folder.glob("*"):
        if not mark.name.startswith(f"{socket.gethostname()}-"):
            mark.unlink(missing_ok=True)
    for pid in marked(folder):
        mark = folder / f"{socket.gethostname()}-{pid}"
        if _started(pid) == mark.read_text() != "":
            kill(pid)
            killed.append(pid)
        mark.unlink(missing_ok=True)
    return killed


def kill(pid: int) -> None:
    """Kill a process of this host and wait until it is gone."""
    started = _started(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_WITHIN_S
    while started and _started(pid) == started and time.monotonic() < deadline:
        time.sleep(0.02)


def out_of_memory_kills() -> int:
    """How many processes of this host the kernel has killed for memory since it started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _started(pid: int) -> str:
    """When a process was started, in ticks; empty where there is none, or only its remains (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
