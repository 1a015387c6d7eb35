"""Where the files of a sweep are: at the address, and on each node."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sweeper.remote.storage import RemoteFolder

__all__ = ["SCRATCH", "Files", "copies_here", "copy_folder", "inside", "moved", "name_of", "node_root"]

SCRATCH = "SWEEPER_SCRATCH"
"""The environment's word for a folder on a node's own disk; else the system's one for temporary files."""
LEDGER, TERM = "study.db", "driver.json"
"""The copy of the ledger, and which driver is at work."""
COPIES, CONTENT = "copies", "content"
"""What the driver alone had: ``copies/<hash>/content``."""

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a trial has to know of them. Paths of its job lie in ``folder``."""

    address: str
    """Of everything of one sweep."""
    sweep: str
    """Names the sweep on a node's disk."""
    folder: Path
    """On whose disk it may be: the driver's, or a node's."""
    driver: str = ""
    """Who gave the job: a trial whose driver was followed by another one writes nothing more."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Path on the driver's machine -> address of what it holds, for what no node has."""

    def open(self) -> RemoteFolder:
        return RemoteFolder(self.address)


def node_root(files: Files) -> Path:
    """Where the sweep's files lie on this node."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    scratch = os.environ.get(SCRATCH) or Path(tempfile.gettempdir()) / f"sweeper-{user}"
    return Path(scratch).absolute() / files.sweep


def copy_folder(address: str, files: Files) -> Path:
    """Where on this node lies what a copy's address holds; of all sweeps."""
    return node_root(files).parent / "copies" / address.rpartition("/")[2]


def copies_here(files: Files) -> dict[str, str]:
    """Path on the driver's machine -> path on this node."""
    copies = files.copies.items()
    return {path: str(copy_folder(address, files) / Path(path).name) for path, address in copies}


def inside(path: Path, files: Files, root: Path) -> Path:
    """The same place below another root."""
    return root / path.relative_to(files.folder)


def name_of(path: Path, files: Files) -> str:
    """Of a path what it is called at the address."""
    return path.relative_to(files.folder).as_posix()


def moved(record: Record, files: Files, root: Path) -> Record:
    """A record whose paths, those in ``files.folder``, lie below another root; its ``files`` say so."""
    changed: dict[str, object] = {}
    for one in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, one.name)
        if isinstance(value, Path) and value.is_relative_to(files.folder):
            changed[one.name] = inside(value, files, root)
        elif isinstance(value, Files):
            changed[one.name] = dataclasses.replace(value, folder=root)
    return dataclasses.replace(record, **changed)  # type: ignore[type-var]
