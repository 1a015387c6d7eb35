"""The side of one trial's coordinator: which states there are, and what the driver wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.errors import CheckpointError, TrialFailedError
from sweeper.remote.items import Shells, commit
from sweeper.remote.place import TERM, Files, name_of, node_root
from sweeper.remote.storage import RemoteFilesError

__all__ = ["TrialExchange", "is_followed"]

_LISTEN_EVERY_S = 2.0


def is_followed(files: Files) -> bool:
    """Whether another driver has taken the sweep over."""
    content = files.open().read(TERM)
    return content is not None and json.loads(content)["driver"] != files.driver


class TrialExchange:
    """Of one trial, while it is at work; ``root`` has shells of its states."""

    def __init__(self, files: Files, trial: Path, signals: Iterable[Path | None]) -> None:
        """``trial`` is its folder on the driver's disk, as ``signals`` are files by which the driver tells it
        something. Raises RemoteFilesError."""
        self.files, self._remote = files, files.open()
        self.root = node_root(files) / "shells"
        self.trial = name_of(trial, files)
        self._signals = [name_of(one, files) for one in signals if one is not None]
        self._shells = Shells(self._remote, self.root)
        self._shells.sweep_up(self.trial)
        self.refresh()
        self.hear()
        self._is_over = threading.Event()
        threading.Thread(target=self._listen, name="files", daemon=True).start()

    def refresh(self) -> None:
        """States that were removed here are removed there."""
        self._shells.refresh(self.trial)

    def hear(self) -> None:
        """What the driver wants now, as files in ``root``."""
        for name in self._signals:
            here = self.root / name
            if self._remote.exists(name):
                here.parent.mkdir(parents=True, exist_ok=True)
                here.touch()
            else:
                here.unlink(missing_ok=True)

    def commit(self, item: str, parts: list[Mapping[str, int]]) -> bytes:
        """A state or a model is there with all its parts. Raises CheckpointError where it cannot be told, and
        TrialFailedError where it is nobody's business any more."""
        try:
            if is_followed(self.files):
                raise TrialFailedError("another driver has taken the sweep over")
            content = commit(self._remote, item, parts)
            self._shells.add(item, sum(size for part in parts for size in part.values()))
        except RemoteFilesError as error:
            raise CheckpointError(str(error)) from error
        return content

    def close(self) -> None:
        self._is_over.set()

    def _listen(self) -> None:
        while not self._is_over.wait(_LISTEN_EVERY_S):
            with suppress(RemoteFilesError):
                self.hear()
