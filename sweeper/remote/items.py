"""Folders that are at the address whole or not at all: a state, a model, prepared rows.

The files of ``trials/3/checkpoints/step-00000008`` come first, from as many nodes as have written some, and a
file beside them last: ``step-00000008.whole``, with a name of its own for this writing, and the bytes of each
file. Nobody looks at a folder that has none. It is the first thing that goes when the folder does.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sweeper.remote.storage import RemoteFolder

__all__ = ["Shells", "commit", "drop", "is_whole", "pull", "push", "push_part"]

WHOLE = ".whole"
_SHELL, _PLACE = ".elsewhere", "progress.json"
_STATES, _MODEL = ("checkpoints", "left"), "model"


class _Marker(NamedTuple):
    """What stands in the file that says that a folder is whole."""

    written: str
    files: dict[str, int]


def is_whole(remote: RemoteFolder, item: str) -> bool:
    return remote.exists(item + WHOLE)


def push_part(remote: RemoteFolder, folder: Path, item: str) -> dict[str, int]:
    """Copy the files of a folder there, which are all or some of the item's; their names and bytes."""
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    for file in files:
        remote.put(file, f"{item}/{file.relative_to(folder).as_posix()}")
    return {one.relative_to(folder).as_posix(): one.stat().st_size for one in files}


def commit(remote: RemoteFolder, item: str, parts: Iterable[Mapping[str, int]]) -> bytes:
    """All of it is there. Returns what was written of it, for ``note_whole``."""
    files = {name: size for part in parts for name, size in part.items()}
    content = json.dumps({"written": uuid.uuid4().hex, "files": files}).encode()
    remote.write(item + WHOLE, content)
    return content


def push(remote: RemoteFolder, folder: Path, item: str) -> None:
    """A folder that lies on this disk as a whole; nothing where it is there already."""
    if not is_whole(remote, item):
        note_whole(folder, commit(remote, item, [push_part(remote, folder, item)]))


def pull(remote: RemoteFolder, item: str, folder: Path) -> bool:
    """Have it on this disk, by one rename; whether it is there at all. Nothing is copied where it is here."""
    content = remote.read(item + WHOLE)
    if content is None:
        return False
    note = _note(folder)
    if folder.is_dir() and note.is_file() and note.read_bytes() == content:
        return True
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
        for name in _Marker(**json.loads(content)).files:
            remote.get(f"{item}/{name}", draft / name)
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    except FileNotFoundError:  # dropped meanwhile
        return False
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    note_whole(folder, content)
    return True


def note_whole(folder: Path, content: bytes) -> None:
    """What lies on this disk is what lies there. A part of it, or another writing, would not say so."""
    _note(folder).write_bytes(content)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{WHOLE}")


def drop(remote: RemoteFolder, item: str, files: Iterable[str] | None = None) -> None:
    """Remove it. ``files``: those that are known to be there."""
    remote.remove([item + WHOLE])
    remote.remove(remote.sizes(item) if files is None else files)


class Shells:
    """Folders of the same names on a disk that hold next to nothing: what reads which states there are, how
    large, and how good, works as if they were here; what removes one of them removes it there.

    Each has a file of the size of the whole that takes no room, and of a state what it says of itself.
    """

    def __init__(self, remote: RemoteFolder, root: Path) -> None:
        self._remote, self._root = remote, root
        self._known: set[str] = set()
        """Those that were here and there when we looked last."""

    def refresh(self, trial: str) -> None:
        """Of one trial (``trials/3``), or of all of them (``trials``)."""
        listed = self._remote.sizes(trial)
        files = _by_item(listed)
        there = {item for item in files if item + WHOLE in listed}
        for item in sorted(self._known & there):
            if not (self._root / item).is_dir():
                drop(self._remote, item, files[item])
                there.discard(item)
        for shell in self._below(trial):
            if (item := shell.relative_to(self._root).as_posix()) not in there:
                shutil.rmtree(shell, ignore_errors=True)
                self._known.discard(item)
        for item in sorted(there):
            self.add(item, sum(listed[file] for file in files[item]))
        self._known -= {item for item in self._known - there if f"{item}/".startswith(f"{trial}/")}

    def add(self, item: str, size: int) -> None:
        """One that is there."""
        folder = self._root / item
        self._known.add(item)
        if folder.is_dir():
            return
        draft = folder.with_name(f".{folder.name}.shell")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if (place := self._remote.read(f"{item}/{_PLACE}")) is not None:
            (draft / _PLACE).write_bytes(place)
        with (draft / _SHELL).open("wb") as hollow:
            hollow.truncate(size)
        draft.replace(folder)

    def fill(self, item: str) -> None:
        """Have all of it on this disk, where it is there."""
        folder = self._root / item
        if (folder / _SHELL).exists() and pull(self._remote, item, folder):
            self._known.add(item)

    def sweep_up(self, trial: str) -> None:
        """Remove what is not whole: whoever wrote it is gone."""
        listed = self._remote.sizes(trial)
        for item, files in _by_item(listed).items():
            if item + WHOLE not in listed:
                self._remote.remove(files)

    def _below(self, trial: str) -> list[Path]:
        start = self._root / trial
        return [one.parent for one in start.rglob(_SHELL)] if start.is_dir() else []


def _by_item(names: Iterable[str]) -> dict[str, list[str]]:
    """Of each state and model its files: ``trials/3/left/step-1/x`` is one of ``trials/3/left/step-1``."""
    found: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        depth = 4 if parts[2:3] and parts[2] in _STATES else 3 if parts[2:3] == [_MODEL] else 0
        if depth and len(parts) > depth:
            found.setdefault("/".join(parts[:depth]), []).append(name)
    return found
