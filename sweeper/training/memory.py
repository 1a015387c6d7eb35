"""Memory of one rank: what it holds, and what it may have."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator

from sweeper.space import Resources

__all__ = [
    "capacity_gib",
    "fits_device",
    "held_memory_gib",
    "idle_memory_gib",
    "is_cpu",
    "limit_memory",
    "memory_share_gib",
    "peak_memory_gib",
    "reset_peak_memory",
    "return_freed_memory",
    "return_unused",
]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
_FAST_BYTES, _TIGHT_BYTES = (2**21, 2**26), (2**18, 2**17)
"""From which size tensors have pages of their own, and from which size the heap's free top goes back."""

_CONTEXT_GIB = 0.6
"""What a process takes of a GPU beside its tensors, for CUDA's context and code: an allowance."""


def is_cpu() -> bool:
    """Whether DeepSpeed's device is a CPU."""
    return bool(get_accelerator().device_name() == "cpu")


def return_freed_memory(*, tight: bool = False) -> None:
    """Have each tensor of 2 MiB and more in pages of its own on a CPU, which go back when it is freed.

    glibc by itself keeps tensors of up to 32 MiB in a heap that later ones fit into badly: a step then needs
    a fifth more. Smaller sizes than these cost up to two fifths of the speed (docs/decisions/0024).
    ``tight``, for a rank with a limit of memory, does without that speed: what does not fit is then refused
    to a tensor, which can be told, and not to native code in the middle of something, which crashes.
    """
    if is_cpu():
        own_pages, kept = _TIGHT_BYTES if tight else _FAST_BYTES
        with suppress(AttributeError, OSError):  # another C library
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, own_pages)
            libc.mallopt(_M_TRIM_THRESHOLD, kept)


def return_unused() -> None:
    """Give back what the device's allocator and that of pinned host memory, or a CPU's heap, keep of tensors
    that are gone: a next trial may have larger ones, and other processes use the device too."""
    if not is_cpu():
        get_accelerator().empty_cache()
        with suppress(AttributeError):  # another release of torch
            torch._C._host_emptyCache()
    else:
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> None:
    """Start a new peak: of the device's allocator, or of this process's resident memory on a CPU."""
    if is_cpu():
        with suppress(OSError):
            _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
    else:
        get_accelerator().reset_peak_memory_stats()


def limit_memory(limit_gib: float | None) -> None:
    """Let this rank have so much memory and no more; None takes an earlier limit back.

    On a GPU it is the fraction of the device that torch's allocator takes; on a CPU RLIMIT_DATA of
    setrlimit(2), which counts what was reserved as well: what is reserved and not used now comes on top.
    """
    if not is_cpu():
        fraction = 1.0 if limit_gib is None else min(1.0, max(limit_gib, 0.0) / _total_gib())
        torch.cuda.set_per_process_memory_fraction(fraction)
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = resource.RLIM_INFINITY
    if limit_gib is not None:
        unused_gib = _gib("VmData:") - _gib("RssAnon:")
        soft = int((limit_gib + unused_gib - _gib("RssFile:")) * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def held_memory_gib() -> float:
    """GiB that this process holds now: resident memory of the host, and what the device's allocator has
    reserved, which no other process can have."""
    device = 0.0 if is_cpu() else float(get_accelerator().memory_reserved()) / 2**30
    return _gib("VmRSS:") + device


def idle_memory_gib() -> float:
    """What ``peak_memory_gib`` would say of a process without a model: nothing, of a GPU."""
    return _gib("VmRSS:") if is_cpu() else 0.0


def peak_memory_gib() -> float:
    """GiB since the last reset; on a CPU the whole process, torch included."""
    return _gib("VmHWM:") if is_cpu() else float(get_accelerator().max_memory_allocated()) / 2**30


def memory_share_gib(resources: Resources) -> float | None:
    """What this rank may have at most; None: whatever there is. Without a limit of the user's own, a rank on
    a fraction of a GPU has that fraction of what all contexts leave: more would be its neighbours'."""
    limit_gib, share = resources.memory_limit_gib, resources.gpus_per_rank
    if not 0 < share < 1 or is_cpu():
        return limit_gib
    share_gib = share * _total_gib() - _CONTEXT_GIB
    return share_gib if limit_gib is None else min(limit_gib, share_gib)


def capacity_gib(*, gpu_share: float = 1.0) -> float:
    """GiB for all that lies on this process's device: what is free of a GPU now, with what this process's
    allocator has (its CUDA context, a desktop and strangers have the rest), less the contexts of those that
    will have as small a share of it beside this one; or what is left of a CPU's host, or of the control group
    (version 2) that the process is in, whichever has less."""
    if not is_cpu():
        free, _ = torch.cuda.mem_get_info()  # DeepSpeed's word for it is the total, or fails on UUIDs
        neighbours = int(1 / gpu_share + 1e-9) - 1 if 0 < gpu_share < 1 else 0
        return (free + float(get_accelerator().memory_reserved())) / 2**30 - neighbours * _CONTEXT_GIB
    host = _gib("MemAvailable:", Path("/proc/meminfo"))
    with suppress(OSError, ValueError, StopIteration):
        group = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::")
        folder = Path("/sys/fs/cgroup") / group[3:].lstrip("/")
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(host, (limit - used) / 2**30)
    return host


def fits_device(model: Any) -> bool:
    """Whether a model of transformers can lie on this process's GPU as a whole; on a CPU it does already."""
    return is_cpu() or bool(model.get_memory_footprint() < 0.9 * capacity_gib() * 2**30)


def _total_gib() -> float:
    """Of the GPU."""
    return float(get_accelerator().total_memory()) / 2**30


def _gib(name: str, file: Path = _STATUS) -> float:
    """A line of proc(5), which has kB; 0 where there is none of the name."""
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 2**20
    return 0.0
