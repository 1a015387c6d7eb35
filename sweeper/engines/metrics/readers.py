"""Which reader the section ``engine.metrics`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sweeper.engines.metrics.hf import TrainerState
from sweeper.engines.metrics.lines import JsonLines, Output
from sweeper.engines.metrics.point import Names, Reader
from sweeper.engines.metrics.tensorboard import EventFiles
from sweeper.space import EngineMetrics, placed

__all__ = ["reader_of"]


def reader_of(
    metrics: EngineMetrics, places: Mapping[str, str], log_file: Path, *, logged_before: int
) -> Reader:
    """For one trial, whose output goes into ``log_file`` after so many bytes."""
    names, kind = Names(metrics), metrics.kind
    if kind == "stdout":
        return Output(log_file, metrics.place, names, after=logged_before)
    place = str(placed(metrics.place, places))
    if kind == "jsonl":
        return JsonLines(Path(place), names)
    if kind == "hf":
        return TrainerState(Path(place), names)
    if kind == "tensorboard":
        return EventFiles(Path(place), names)
    from sweeper.engines.metrics.mlflow import Runs

    return Runs(place, places["out"], names)
