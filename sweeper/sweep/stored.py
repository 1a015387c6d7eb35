"""A sweep's folder read back: what was asked, its ledger, and whether anybody is at work on it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import SweepFolderError, first_line
from sweeper.redact import STRUCK, is_struck
from sweeper.search import Ledger, absolute_address
from sweeper.space import (
    Facts,
    Space,
    SweepFolder,
    begun_format,
    dump_config,
    load_space,
    mark_format,
    read_record,
    read_secrets,
    write_secrets,
    write_whole,
)
from sweeper.sweep.lock import is_locked

__all__ = [
    "follows_room",
    "newest_sweep",
    "note_concurrency",
    "open_sweep",
    "store_asked",
    "store_space",
    "stored_space",
    "study_url",
    "sweep_state",
    "this_driver",
    "with_noted_concurrency",
]

_FOLLOWS = "follows_room"
_STORAGE_VARIABLE = "SWEEPER_STORAGE"
"""Gives the ledger's whole address where a sweep's folder has come without its secrets."""


def store_space(space: Space, folder: SweepFolder) -> None:
    """Write what was asked with the defaults resolved, the facts that they were drawn from, and the format.

    Passwords of addresses go into a file of their own. The space file comes last: a folder that has one
    holds a sweep.
    """
    mark_format(folder)
    write_secrets(space.settings, folder)
    write_whole(folder.facts_file, json.dumps(dataclasses.asdict(space.facts), indent=2) + "\n")
    store_asked(space, folder)


def store_asked(space: Space, folder: SweepFolder) -> None:
    """Write what is asked of a sweep, beside its facts and secrets."""
    tree = space.resolved()
    if storage := tree["search"].get("storage"):
        tree["search"]["storage"] = absolute_address(storage)
    write_whole(folder.space_file, dump_config(tree))


def stored_space(folder: SweepFolder, overrides: Sequence[str] = ()) -> Space:
    """The space as it was when the sweep began; needs neither its data nor its model.

    Raises SweepFolderError when the folder holds no sweep, or one of a newer version, and SpaceFileError for
    what is wrong with the ``overrides``.
    """
    if not folder.space_file.is_file():
        raise _no_sweep(folder.root)
    then = _as_begun(folder)
    secrets = [f"{path}={json.dumps(address)}" for path, address in read_secrets(folder).items()]
    return load_space(
        folder.space_file, overrides=[*then, *secrets, *overrides], gather=lambda _: _stored_facts(folder)
    )


def study_url(space: Space, folder: SweepFolder) -> str:
    """Where the ledger is. Raises SweepFolderError when the password is not known here."""
    address = space.settings.search.storage
    if address is None:
        return folder.study_url
    if not is_struck(address):
        return address
    if os.environ.get(_STORAGE_VARIABLE):
        return os.environ[_STORAGE_VARIABLE]
    if address.startswith("postgresql") and "PGPASSWORD" in os.environ:
        return address.replace(f":{STRUCK}@", "@")
    raise SweepFolderError.of(
        where=str(folder.space_file),
        value=f"storage: {address}",
        rule="the password of the ledger's database is not here: "
        f"{folder.secrets_file.name} is missing, or somebody else's",
        remedy=f"put that file back, or set {_STORAGE_VARIABLE} to the whole address (or PGPASSWORD)",
    )


def open_sweep(folder: SweepFolder) -> tuple[Space, Ledger]:
    """The space and the ledger of an existing folder. Raises SweepFolderError when it is none."""
    space = stored_space(folder)
    return space, Ledger.open(study_url(space, folder), space)


def newest_sweep(directory: Path) -> tuple[Space, SweepFolder]:
    """The sweep in this folder, else the newest one in the folders inside it.

    Raises SweepFolderError when there is neither.
    """
    inside = sorted(directory.glob("*/space.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    for root in (directory, *(file.parent for file in inside)):
        if SweepFolder(root).space_file.is_file():
            return stored_space(SweepFolder(root)), SweepFolder(root)
    raise _no_sweep(directory)


def this_driver() -> dict[str, Any]:
    """How a running sweep's ledger names its driver."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def sweep_state(ledger: Ledger, folder: SweepFolder) -> str:
    """``running``, ``finished``, ``interrupted`` or ``failed``; a dead driver's sweep is interrupted."""
    if is_locked(folder):
        return "running"
    state = str(ledger.sweep_attributes().get("state", "interrupted"))
    return "interrupted" if state == "running" else state


def _as_begun(folder: SweepFolder) -> list[str]:
    """What fields that are newer than a sweep are in it, where their default would change what it began with.

    Raises SweepFolderError where the folder is one of a newer version.
    """
    return ["learn_template_text=true"] if begun_format(folder) < 2 else []


def _stored_facts(folder: SweepFolder) -> Facts:
    try:
        return read_record(Facts, json.loads(folder.facts_file.read_bytes()))
    except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise SweepFolderError.of(
            where=str(folder.facts_file),
            value="",
            rule=f"the sweep's facts cannot be read ({first_line(error)})",
            remedy="restore the file, or start a new sweep",
        ) from error


def _no_sweep(directory: Path) -> SweepFolderError:
    return SweepFolderError.of(
        where=str(directory),
        value="",
        rule="holds no sweep" if directory.is_dir() else "there is no such folder",
        remedy="give the folder that `sweeper run` named, such as sweeps/<name>",
    )


def note_concurrency(space: Space, ledger: Ledger) -> None:
    """Keep of a new sweep that its file leaves to the room there is how many trials run side by side: the
    folder's space file has the number that this machine would have room for."""
    if "resources.max_concurrent" in space.decided:
        ledger.note_sweep(**{_FOLLOWS: True})


def follows_room(ledger: Ledger) -> bool:
    """Whether on a cluster as many trials run side by side as it has room for."""
    return bool(ledger.sweep_attributes().get(_FOLLOWS))


def with_noted_concurrency(space: Space, ledger: Ledger) -> Space:
    """A sweep of a version that measured how many trials are fastest side by side goes on with that many."""
    noted = ledger.sweep_attributes().get("places")
    if not noted:
        return space
    speeds = {one["places"]: one["tokens_per_s"] or 0.0 for one in noted["tried"]}
    best = max(speeds.values())
    return space.with_concurrency(min(count for count, speed in speeds.items() if speed >= 0.98 * best))
