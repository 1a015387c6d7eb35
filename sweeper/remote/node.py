"""The side of one node: brings what a trial needs to its disk, and sends what the trial writes there."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from sweeper.errors import TrialLostError
from sweeper.remote.items import note_whole, pull, push_part
from sweeper.remote.place import CONTENT, Files, copy_folder, node_root
from sweeper.remote.storage import RemoteFilesError, RemoteFolder
from sweeper.remote.trial import is_followed

__all__ = ["NodeFiles"]

_SEND_EVERY_S, _SHARE_OF_TIME = 2.0, 20
"""What a trial prints is sent so often, and more seldom where that takes longer than a twentieth of it."""
_TOLD = ("log*.txt", "progress.json")
_MARKS = "logs/processes"


class NodeFiles:
    """Of one trial after the other, as far as its ranks are on this node."""

    def __init__(self) -> None:
        self._files: Files | None = None
        self._trial = ""
        self._sent: dict[Path, tuple[int, float]] = {}
        self._sending = threading.Lock()
        threading.Thread(target=self._send_now_and_then, name="files", daemon=True).start()

    def begin(self, files: Files, trial: str, items: Collection[str], shared: Iterable[str]) -> None:
        """A trial is to begin. Have its ``items`` (states, which may be gone) and what trials share on this
        disk, and what was printed of it elsewhere; what an earlier one has left here is removed. Raises
        RemoteFilesError, and TrialLostError where something that trials share is not there."""
        self.flush()
        with self._sending:
            if self._files is not None and self._trial != trial:
                shutil.rmtree(node_root(self._files) / self._trial, ignore_errors=True)
            self._files, self._trial = files, trial
            self._bring(files, items, shared)

    def _bring(self, files: Files, items: Collection[str], shared: Iterable[str]) -> None:
        remote, root = files.open(), node_root(files)
        (root / self._trial).mkdir(parents=True, exist_ok=True)
        wanted = {root / item for item in items}
        for folder in (*(root / self._trial).glob("*/step-*"), root / self._trial / "model"):
            if folder not in wanted:  # it may never have arrived there
                shutil.rmtree(folder, ignore_errors=True)
        self.bring(items)
        for item in shared:
            _pull_once(remote, item, root / item)
        for name, size in remote.sizes(self._trial, deep=False).items():
            here = root / name
            if here.match(_TOLD[0]) and not (here.is_file() and here.stat().st_size >= size):
                remote.get(name, here)
        self._sent = {one: _stamp(one) for one in self._told(root)}
        for address in set(files.copies.values()):
            _pull_once(RemoteFolder(address), CONTENT, copy_folder(address, files))

    def bring(self, items: Iterable[str]) -> None:
        """Have these states on this disk, where they are there. Raises RemoteFilesError."""
        assert self._files is not None
        remote, root = self._files.open(), node_root(self._files)
        for item in items:
            pull(remote, item, root / item)

    def part(self, item: str) -> dict[str, int]:
        """Send what this node has of a state or a model. Raises RemoteFilesError."""
        assert self._files is not None
        folder = node_root(self._files) / item
        return push_part(self._files.open(), folder, item) if folder.is_dir() else {}

    def note_whole(self, item: str, content: bytes) -> None:
        """This node has had all parts of it."""
        assert self._files is not None
        note_whole(node_root(self._files) / item, content)

    def states(self, folder: str) -> list[str]:
        """The states that lie on this node in one of the trial's folders."""
        assert self._files is not None
        here = node_root(self._files) / folder
        return sorted(f"{folder}/{one.name}" for one in here.glob("step-*")) if here.is_dir() else []

    def keep_only(self, items: Iterable[str]) -> None:
        """Remove the other states of the trial from this disk."""
        if self._files is None:
            return
        root, kept = node_root(self._files), set(items)
        for state in (root / self._trial / "checkpoints").glob("step-*"):
            if state.relative_to(root).as_posix() not in kept:
                shutil.rmtree(state, ignore_errors=True)

    def flush(self) -> None:
        """Send what the trial has printed until now. What does not arrive is lost, and no trial for it."""
        with self._sending, suppress(RemoteFilesError, OSError):
            if self._files is not None:
                self._send(self._files)

    # -----------------------------------------------------------------------------------------

    def _send_now_and_then(self) -> None:
        took_s = 0.0
        while True:
            time.sleep(max(_SEND_EVERY_S, took_s * _SHARE_OF_TIME))
            began_s = time.monotonic()
            self.flush()
            with suppress(RemoteFilesError, OSError, ValueError):
                self._end_where_followed()
            took_s = time.monotonic() - began_s

    def _send(self, files: Files) -> None:
        root, remote = node_root(files), files.open()
        for file in self._told(root):
            stamp = _stamp(file)
            if self._sent.get(file) != stamp:
                remote.write(file.relative_to(root).as_posix(), file.read_bytes())
                self._sent[file] = stamp

    def _told(self, root: Path) -> list[Path]:
        return [one for pattern in _TOLD for one in (root / self._trial).glob(pattern)]

    def _end_where_followed(self) -> None:
        """The ranks of a driver that another one has followed end when their marks are gone."""
        if self._files is None or not is_followed(self._files):
            return
        for mark in (node_root(self._files) / _MARKS / self._files.driver).glob("*"):
            mark.unlink(missing_ok=True)


def _stamp(file: Path) -> tuple[int, float]:
    found = file.stat()
    return found.st_size, found.st_mtime


def _pull_once(remote: RemoteFolder, item: str, folder: Path) -> None:
    """What several trials of the node share, whichever of them comes first. It never changes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.pull.lock")):
        if not folder.is_dir() and not pull(remote, item, folder):
            raise TrialLostError(f"{remote.address}/{item} is not there")
