"""What the driver writes of its sweep lies at the address as well: another machine can go on with it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sweeper.errors import SweepFolderError
from sweeper.remote.place import LEDGER, TERM
from sweeper.remote.storage import FIELD, RemoteFolder
from sweeper.space import SweepFolder, write_whole

__all__ = ["SweepRecord", "address_of", "bring_back", "refuse_taken"]

_OF_THE_SWEEP = ("format_file", "facts_file", "history_file", "lr_range_file", "lr_range_picture")
_OF_A_TRIAL = ("config.yaml", "steps.jsonl", "ds_config.json")


def address_of(files: str, folder: SweepFolder) -> str:
    """Of everything of one sweep, by the field and the name of its folder."""
    return f"{files.rstrip('/')}/{folder.root.absolute().name}"


class SweepRecord:
    """Of one driver. Each method raises RemoteFilesError."""

    def __init__(self, address: str, folder: SweepFolder, ledger: Path | None) -> None:
        """``ledger``: its SQLite file; None where it is on a server, which other machines reach."""
        self._remote, self._folder, self._ledger = RemoteFolder(address), folder, ledger
        self._sent: dict[str, tuple[int, int]] = {}

    def begin(self, driver: str, sweep: str) -> None:
        """From now on this driver's word counts in the sweep of this id; the space file comes last."""
        term = json.dumps({"driver": driver, "sweep": sweep})
        self._remote.write(TERM, term.encode())
        write_whole(self._folder.driver_file, term)
        for name in _OF_THE_SWEEP:
            self._send(getattr(self._folder, name))
        for trial in self._folder.trials_dir.glob("*"):
            self._send_trial(trial)
        self.save()
        self._send(self._folder.space_file)

    def save(self, trial: int | None = None) -> None:
        """The ledger as it is now, and what has come of a trial."""
        if trial is not None:
            self._send_trial(self._folder.trial_dir(trial))
        if self._ledger is not None and self._ledger.is_file():
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch, LEDGER)
                with closing(sqlite3.connect(self._ledger)) as ours, closing(sqlite3.connect(copy)) as theirs:
                    ours.backup(theirs)
                self._remote.put(copy, LEDGER)

    def _send_trial(self, trial: Path) -> None:
        for name in _OF_A_TRIAL:
            self._send(trial / name)

    def _send(self, file: Path) -> None:
        """Where it has changed since this driver has sent it."""
        if not file.is_file():
            return
        name, stamp = file.relative_to(self._folder.root).as_posix(), _stamp(file)
        if self._sent.get(name) != stamp:
            self._remote.put(file, name)
            self._sent[name] = stamp


def bring_back(address: str, folder: SweepFolder) -> bool:
    """Have the sweep's folder as the last driver has left it at the address, where that was one of another
    machine; whether it was.

    Raises RemoteFilesError, and SweepFolderError where the folder holds another sweep.
    """
    remote = RemoteFolder(address)
    content = remote.read(TERM)
    if content is None or not remote.exists(folder.space_file.name):
        return False
    last = json.loads(content)
    if folder.space_file.is_file():
        ours = _term(folder)
        if ours.get("sweep") != last["sweep"]:
            raise _other_sweep(address, folder)
        if ours["driver"] == last["driver"]:
            return False
    folder.study_file.with_name(f"{LEDGER}-journal").unlink(missing_ok=True)  # of another state of it
    shutil.rmtree(folder.trials_dir, ignore_errors=True)  # shells, and what the lost driver has said anew
    folder.root.mkdir(parents=True, exist_ok=True)
    write_whole(folder.driver_file, json.dumps({"driver": None, "sweep": last["sweep"]}))
    names = [name for name in remote.sizes("trials") if name.rpartition("/")[2] in _OF_A_TRIAL]
    first = [getattr(folder, name).name for name in _OF_THE_SWEEP]
    for name in (*first, LEDGER, *(one for one in names if one.count("/") == 2), folder.space_file.name):
        if remote.exists(name):
            remote.get(name, folder.study_file if name == LEDGER else folder.root / name)
    return True


def _term(folder: SweepFolder) -> dict[str, str | None]:
    """Which driver of which sweep was at work in a folder; empty where its sweep was never at an address."""
    if not folder.driver_file.is_file():
        return {}
    term: dict[str, str | None] = json.loads(folder.driver_file.read_text())
    return term


def _other_sweep(address: str, folder: SweepFolder) -> SweepFolderError:
    return SweepFolderError.of(
        where=str(folder.root),
        value="",
        rule=f"the folder holds a sweep, and {address} another one of this name, which would take its place",
        remedy="give a folder of another name with --out, or go on with the sweep in the folder by `sweeper "
        "resume`",
    )


def refuse_taken(address: str, folder: SweepFolder) -> None:
    """Raises SweepFolderError where the address holds a sweep of this name, and RemoteFilesError."""
    if RemoteFolder(address).exists(folder.space_file.name):
        raise SweepFolderError.of(
            where=FIELD,
            value=address,
            rule="there is a sweep of this name already",
            remedy="go on with it: the same command with --resume; or give another folder with --out, whose "
            "name it gets there",
        )


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
