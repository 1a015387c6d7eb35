"""transformers' ``trainer_state.json``, which is written with each of its states and at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.engines.metrics.point import Names, Point

__all__ = ["TrainerState"]

_FILE = "trainer_state.json"


class TrainerState:
    """The log of the newest state: each entry once, in the order of steps."""

    look_every_s = 0.2

    def __init__(self, folder: Path, names: Names) -> None:
        self._folder, self._names = folder, names
        self._seen: set[str] = set()
        self._looked: dict[Path, tuple[int, int]] = {}

    def read(self) -> list[Point]:
        entries = [entry for file in self._changed() for entry in self._new(file)]
        return sorted(entries, key=lambda point: point.step or 0)

    def _changed(self) -> Iterator[Path]:
        for file in sorted([*self._folder.glob(f"checkpoint-*/{_FILE}"), *self._folder.glob(_FILE)]):
            try:
                stat = file.stat()
            except OSError:
                continue
            if self._looked.get(file) != (stat.st_mtime_ns, stat.st_size):
                self._looked[file] = (stat.st_mtime_ns, stat.st_size)
                yield file

    def _new(self, file: Path) -> Iterator[Point]:
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            log = state.get("log_history", [])
        except (OSError, ValueError, AttributeError):  # half written
            self._looked.pop(file, None)
            return
        total: Any = state.get("max_steps")
        for entry in log if isinstance(log, list) else []:
            text = json.dumps(entry, sort_keys=True)
            if isinstance(entry, dict) and text not in self._seen:
                self._seen.add(text)
                point = self._names.point(entry)
                yield replace(point, total_steps=total) if isinstance(total, int) and total > 0 else point
