"""Peak memory of one rank."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from deepspeed.accelerator import get_accelerator

__all__ = ["peak_memory_gib", "reset_peak_memory"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Start a new peak: of the device's allocator, or of this process's resident memory on a CPU."""
    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu":
        with suppress(OSError):
            _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
    else:
        accelerator.reset_peak_memory_stats()


def peak_memory_gib() -> float:
    """GiB since the last reset; on a CPU the whole process, torch included."""
    accelerator = get_accelerator()
    if accelerator.device_name() != "cpu":
        return float(accelerator.max_memory_allocated()) / 2**30
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    return 0.0
