"""A sweep on nodes that share no file system: what the driver sends before the first trial, and has at the
end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sweeper.data import tokenized
from sweeper.remote import DriverFiles, RemoteFilesError
from sweeper.search import Ledger
from sweeper.space import Config, Space, SweepFolder

__all__ = ["remote_files"]


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
    remote = DriverFiles(address, folder, ledger.sweep_attributes()["id"])
    for config, made in rows:
        tokenized(config, made)
    say(f"sending model and rows to {address}, those that are not there yet")
    remote.begin([config for config, _ in rows], [made for _, made in rows])
    try:
        yield remote
    finally:
        try:
            remote.end()
        except RemoteFilesError as error:  # what was measured is in the ledger
            warn(f"warning: {error}")
