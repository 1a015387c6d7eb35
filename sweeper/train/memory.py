"""Peak memory of one rank."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from deepspeed.accelerator import get_accelerator

__all__ = ["held_memory_gib", "peak_memory_gib", "reset_peak_memory"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Start a new peak: of the device's allocator, or of this process's resident memory on a CPU."""
    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu":
        with suppress(OSError):
            _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
    else:
        accelerator.reset_peak_memory_stats()


def held_memory_gib() -> float:
    """GiB that this process holds now: resident memory of the host, and the device's allocations."""
    accelerator = get_accelerator()
    device = 0.0 if accelerator.device_name() == "cpu" else float(accelerator.memory_allocated()) / 2**30
    return _status_gib("VmRSS:") + device


def peak_memory_gib() -> float:
    """GiB since the last reset; on a CPU the whole process, torch included."""
    accelerator = get_accelerator()
    if accelerator.device_name() != "cpu":
        return float(accelerator.max_memory_allocated()) / 2**30
    return _status_gib("VmHWM:")


def _status_gib(name: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 2**20
    return 0.0
