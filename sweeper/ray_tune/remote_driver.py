"""A sweep on nodes that share no file system: what the driver sends before the first trial, and has at the
end."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sweeper.data import tokenized
from sweeper.remote import (
    DriverFiles,
    RemoteFilesError,
    SweepRecord,
    address_of,
    bring_back,
    check_files,
    refuse_taken,
)
from sweeper.search import Ledger, TrialRecord
from sweeper.space import Config, Space, SweepFolder
from sweeper.sweep.listener import Listener
from sweeper.sweep.lock import locked
from sweeper.sweep.recovery import TrialRestart
from sweeper.training import Progress

__all__ = ["RecordCopy", "brought_back", "refuse_taken_address", "remote_files"]


class RecordCopy(Listener):
    """Sends the ledger before a trial goes on, so that no state at the address is ahead of it."""

    def __init__(self, record: SweepRecord, warn: Callable[[str], None]) -> None:
        self._record, self._warn = record, warn

    def trial_started(self, number: int, record: TrialRecord, config: Config) -> None:
        self._save(number)

    def progressed(self, number: int, progress: Progress) -> None:
        self._save(number)

    def trial_set_back(self, number: int, setback: TrialRestart) -> None:
        self._save(number)

    def trial_paused(self, record: TrialRecord) -> None:
        self._save(record.number)

    def trial_finished(self, record: TrialRecord) -> None:
        self._save(record.number)

    def _save(self, number: int) -> None:
        try:
            self._record.save(number)
        except (OSError, sqlite3.Error) as error:
            self._warn(f"the ledger could not be copied: {error}")


def brought_back(space: Space, folder: SweepFolder) -> list[str]:
    """Where another machine was the last to drive the sweep, the folder is as it has left it, and a sentence
    says so. Raises what ``check_files`` does, and SweepFolderError where somebody is at work on it."""
    address = space.closed.get("resources.files")
    if address is None:
        return []
    check_files(space)
    with locked(folder):
        is_back = bring_back(address_of(address, folder), folder)
    return [f"taking over from another machine, by what is at {address}"] * is_back


def refuse_taken_address(space: Space, folder: SweepFolder) -> None:
    """Raises SweepFolderError where a sweep of this name is at the address."""
    address = space.closed.get("resources.files")
    if address is not None:
        refuse_taken(address_of(address, folder), folder)


@contextmanager
def remote_files(
    space: Space,
    folder: SweepFolder,
    ledger: Ledger,
    rows: Sequence[tuple[Config, Path]],
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> Iterator[DriverFiles | None]:
    """The driver's side of ``resources.files``; None where nodes share the sweep's folder.

    Args:
        rows: of each configuration where its rows lie, or will: they are made first.

    Raises RemoteFilesError, and what ``tokenized`` raises.
    """
    address = space.closed["resources.files"]
    if address is None:
        yield None
        return
    from sweeper.ray_tune.nodes import forget_sweep

    own = folder.study_file if space.settings.search.storage is None else None
    remote = DriverFiles(address, folder, ledger.sweep_attributes()["id"], ledger=own)
    for config, made in rows:
        tokenized(config, made)
    say(f"sending model and rows to {address}, those that are not there yet")
    remote.begin([config for config, _ in rows], [made for _, made in rows])
    try:
        yield remote
        forget_sweep(remote.of_job())
    finally:
        try:
            remote.end()
        except RemoteFilesError as error:  # what was measured is in the ledger
            warn(f"warning: {error}")
