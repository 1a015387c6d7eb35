"""Rank processes must not outlive the sweep that they work for."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

__all__ = [
    "choose_device",
    "die_with_parent",
    "is_running",
    "kill",
    "leave_mark",
    "marked",
    "out_of_memory_kills",
    "reap",
]

_PR_SET_PDEATHSIG = 1
_GONE_WITHIN_S = 10.0


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies, stopped or busy as it may be."""
    with suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


def leave_mark(folder: Path) -> None:
    """Name this process in a folder, for ``reap``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{socket.gethostname()}-{os.getpid()}").write_text(_started(os.getpid()))


def marked(folder: Path) -> list[int]:
    """The processes of this host that ``leave_mark`` named, whether they still run or not."""
    return [int(mark.name.rpartition("-")[2]) for mark in folder.glob(f"{socket.gethostname()}-*")]


def is_running(pid: int) -> bool:
    """Whether there is such a process on this host, be it stopped; its remains are none."""
    return _started(pid) != ""


def reap(folder: Path) -> list[int]:
    """Kill the processes of this host that ``leave_mark`` named and that still run; returns their ids.

    A process that has got the number of one that is gone is left alone.
    """
    killed = []
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
