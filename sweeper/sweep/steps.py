"""The metrics of each optimizer step of a trial, on disk: what no evaluation in the ledger repeats."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.training import StepMetrics

__all__ = ["append_steps", "read_steps"]


def append_steps(path: Path, steps: Sequence[StepMetrics]) -> None:
    """Adds a line for each step; the system has them, even if this process is killed next."""
    if not steps:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(_line(step)) + "\n" for step in steps)
    with path.open("ab+") as file:
        file.write((_mending(file) + lines).encode())


def read_steps(path: Path) -> list[StepMetrics]:
    """The steps in order; none where there is no file.

    A trial that goes on from a checkpoint repeats steps: the later line of a step stands. A line that
    a killed process left half written is skipped.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    read = (step for line in lines if (step := _step(line)) is not None)
    return [step for _, step in sorted({step.step: step for step in read}.items())]


def _mending(file: Any) -> str:
    """What has to come first, so that a half line at the end does not spoil the next one as well."""
    if not file.tell():
        return ""
    file.seek(-1, 2)
    return "" if file.read(1) == b"\n" else "\n"


def _line(step: StepMetrics) -> dict[str, Any]:
    return {name: _encode(value) for name, value in asdict(step).items()}


def _encode(value: float | None) -> float | str | None:
    """JSON has no number for NaN and infinity; ``float`` reads the words back."""
    return value if value is None or math.isfinite(value) else str(value)


def _step(line: str) -> StepMetrics | None:
    try:
        found = json.loads(line)
        norm = found["grad_norm"]
        return StepMetrics(
            step=int(found["step"]),
            tokens=int(found["tokens"]),
            loss=float(found["loss"]),
            lr=float(found["lr"]),
            grad_norm=None if norm is None else float(norm),
            time_s=float(found["time_s"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
