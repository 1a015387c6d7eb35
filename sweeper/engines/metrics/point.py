"""One report of a trainer under our names, however it was written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sweeper.space import EngineMetrics

__all__ = ["Names", "Point", "Reader"]

_COUNTS = {
    "step": ("step", "global_step", "current_steps"),
    "epoch": ("epoch",),
    "tokens": ("tokens", "num_input_tokens_seen"),
    "total_steps": ("total_steps", "max_steps"),
}
"""What trainers call where they are."""
_TRAINING = {
    "loss": "train/loss",
    "train_loss": "train/loss",
    "learning_rate": "train/lr",
    "lr": "train/lr",
    "grad_norm": "train/grad_norm",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Metrics of one moment; what is not told is None."""

    metrics: Mapping[str, float]
    """``eval/loss``, ``train/lr``."""
    step: int | None = None
    epoch: float | None = None
    tokens: int | None = None
    total_steps: int | None = None


class Reader(Protocol):
    """Reads what is new. A place that is not there yet, or a line that is half written, comes later."""

    look_every_s: float
    """A look costs so much that more of them are too many."""

    def read(self) -> list[Point]: ...


class Names:
    """Their names -> ours: as the space file says, else by what is usual."""

    def __init__(self, metrics: EngineMetrics) -> None:
        self._given = {theirs: ours for ours, theirs in metrics.names.items()}

    def point(self, record: Mapping[str, Any]) -> Point:
        """Of one report, whatever else stands in it."""
        counts: dict[str, float] = {}
        metrics: dict[str, float] = {}
        for key, value in record.items():
            number = _number(value)
            ours = None if number is None else self.ours(str(key))
            if number is None or ours is None:
                continue
            if ours in _COUNTS:
                if math.isfinite(number):
                    counts[ours] = number
            else:
                metrics[ours] = number
        epoch = counts.pop("epoch", None)
        whole: dict[str, Any] = {name: int(count) for name, count in counts.items()}
        return Point(metrics=metrics, epoch=epoch, **whole)

    def ours(self, theirs: str) -> str | None:
        if theirs in self._given:
            return self._given[theirs]
        for ours, known in _COUNTS.items():
            if theirs in known:
                return ours
        if theirs in _TRAINING:
            return _TRAINING[theirs]
        for prefix in ("eval", "train"):
            if theirs.startswith((f"{prefix}_", f"{prefix}/")):
                return f"{prefix}/{theirs[len(prefix) + 1 :]}"
        return None


def _number(value: Any) -> float | None:
    """Of a number, also where it is written as a text (``nan``, ``1.2e-05``); a switch is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
