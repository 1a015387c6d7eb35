"""Event files of TensorBoard, as they grow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from sweeper.engines.metrics.point import Names, Point
from sweeper.errors import MissingDependencyError

__all__ = ["EventFiles"]


class EventFiles:
    """All scalars of a folder; those of one step are one report."""

    look_every_s = 0.5

    def __init__(self, folder: Path, names: Names) -> None:
        """Raises MissingDependencyError without the package."""
        self._folder, self._names = folder, names
        self._loader, self._tensors = _library()
        self._files: dict[Path, Any] = {}

    def read(self) -> list[Point]:
        by_step: dict[int, dict[str, float]] = {}
        for file in sorted(self._folder.rglob("*tfevents*")):
            loader = self._files.setdefault(file, self._loader(str(file)))
            for event in loader.Load():
                for value in event.summary.value:
                    number = self._scalar(value)
                    if number is not None:
                        by_step.setdefault(event.step, {})[value.tag] = number
        return [self._names.point({"step": step, **by_step[step]}) for step in sorted(by_step)]

    def _scalar(self, value: Any) -> float | None:
        """The loader has made tensors of all of them."""
        if value.HasField("simple_value"):
            return float(value.simple_value)
        if not value.HasField("tensor"):
            return None
        array = self._tensors.make_ndarray(value.tensor)
        return float(array) if array.shape == () and array.dtype.kind in "fiu" else None


def _library() -> tuple[Any, Any]:
    try:
        loading = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
        tensors = importlib.import_module("tensorboard.util.tensor_util")
    except ImportError as error:
        raise MissingDependencyError.of(
            where="engine.metrics",
            value="tensorboard",
            rule="event files are read with the package tensorboard, which is not installed",
            remedy="pip install 'sweeper[tensorboard]', or read jsonl, hf or stdout instead",
        ) from error
    return loading.EventFileLoader, tensors
