"""A sweep compares its trials, so that all of them train on the same rows: those that it began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sweeper.data import difference, prepared_folder, stored_rows, tokenized
from sweeper.errors import SweepFolderError
from sweeper.search import Ledger
from sweeper.space import Config, Space, SweepFolder, search_config

__all__ = ["require_same_rows"]


def require_same_rows(space: Space, ledger: Ledger, folder: SweepFolder, say: Callable[[str], None]) -> None:
    """Before a sweep goes on: whether its rows still come out as they did when it began.

    They are made anew only where anything that they follow from has changed: files, this package, its
    libraries.

    Raises:
        SweepFolderError: they are others, or those of then are not there any more to compare with.
        DataError, ModelError: they cannot be made.
    """
    tags = ledger.sweep_attributes().get("tags", {})
    values, evaluated = space.default_values(), [one for one in ledger.trials() if one.evaluations]
    for on_proxy, name in ((True, "fingerprint.proxy_data"), (False, "fingerprint.data")):
        begun = tags.get(name)
        if begun is not None and any(one.is_proxy == on_proxy for one in evaluated):
            config = search_config(space, values) if on_proxy else space.close(values)
            _require_same(space.rows_config(config), begun, folder, say)


def _require_same(config: Config, begun: str, folder: SweepFolder, say: Callable[[str], None]) -> None:
    now = prepared_folder(config, folder.cache_dir.absolute())
    if now.name == begun:
        return
    say("the rows may come out otherwise than when the sweep began: comparing them")
    before = stored_rows(now.with_name(begun))
    if before is None:
        raise _nothing_to_compare(now.with_name(begun))
    if told := difference(before, tokenized(config, now)):
        raise SweepFolderError.of(
            where=str(folder.root),
            value="",
            rule="the sweep's data gives other rows now than when it began, and its trials would not "
            f"compare: {told}",
            remedy="start a new sweep, or go on with the data and the version of sweeper that it began with",
        )
    say("the rows are the same")


def _nothing_to_compare(cache: Path) -> SweepFolderError:
    return SweepFolderError.of(
        where=str(cache),
        value="",
        rule="the data, sweeper or its libraries have changed since the sweep began, and the rows of then "
        "are not there any more to compare with",
        remedy="start a new sweep, or go on with the data and the versions that it began with",
    )
