"""Ray Tune's own table, which a sweep has no use for."""

from __future__ import annotations

from typing import Any

from ray.tune import ProgressReporter
from ray.tune.experimental.output import IS_NOTEBOOK

__all__ = ["silent_reporter"]


class _SilentReporter(ProgressReporter):  # type: ignore[misc]
    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Never called."""


def silent_reporter() -> ProgressReporter | None:
    """In a notebook Ray Tune clears the cell for its table, even where it is to say nothing (``verbose=0``);
    anywhere else it says nothing, and warns of a reporter."""
    return _SilentReporter() if IS_NOTEBOOK else None
