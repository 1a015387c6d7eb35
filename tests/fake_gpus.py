"""An nvidia-smi that tells of GPUs that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["FOUR", "write_nvidia_smi"]

FOUR = [(3, 40), (38, 40), (25, 40), (12, 16)]
"""Free and total GiB of each GPU."""


def write_nvidia_smi(folder: Path, *answers: Sequence[tuple[float, float]]) -> None:
    """Puts the program into a folder; it gives these answers one after the other, the last for ever."""
    for number, gpus in enumerate(answers):
        lines = [f"{i}, GPU-{i}aaa, {f * 1024:g}, {t * 1024:g}\n" for i, (f, t) in enumerate(gpus)]
        (folder / f"answer-{number:02d}").write_text("".join(lines))
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\ncd {folder}\nnext=$(ls answer-* | head -1)\ncat $next\n"
        "[ $(ls answer-* | wc -l) -gt 1 ] && rm $next\nexit 0\n"
    )
    program.chmod(0o755)
