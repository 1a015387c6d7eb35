"""The history of all sweeps of a user: one SQLite file.

Several sweeps may write at once, also over a network: each write is one transaction that waits for the
others, so that a process that is killed leaves it whole. There is no write-ahead log, which shared file
systems do not bear. What is written twice is there once.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.errors import SweepFolderError
from sweeper.history.stored import PastTrial, SweepFacts, SweepOfHistory
from sweeper.space import read_record

__all__ = ["HistoryFile", "history_path"]

_MIGRATIONS = (
    """
    CREATE TABLE sweeps (id TEXT PRIMARY KEY, name TEXT NOT NULL, metric TEXT NOT NULL, mode TEXT NOT NULL,
        began_s REAL NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL, features TEXT NOT NULL);
    CREATE TABLE trials (sweep TEXT NOT NULL REFERENCES sweeps (id) ON DELETE CASCADE,
        number INTEGER NOT NULL, state TEXT NOT NULL, config TEXT NOT NULL, evaluations TEXT NOT NULL,
        total_tokens REAL, seconds REAL, peak_memory_gib REAL, PRIMARY KEY (sweep, number));
    """,
)
"""From each version of the file to the next; the file keeps the number as its ``user_version``."""
_WAIT_S = 20.0
"""How long a write waits for another process's."""
_VARIABLE = "SWEEPER_HISTORY"
_OFF = frozenset({"", "off", "false", "0"})


def history_path(asked: str | bool | None) -> Path | None:
    """The file, or None where there is to be no history.

    Args:
        asked: ``search.history``: a path, ``false``, or None: ``$SWEEPER_HISTORY`` (a path, or ``off``), else
            ``sweeper/history.sqlite3`` in ``$XDG_DATA_HOME`` or ``~/.local/share``.
    """
    if asked is False:
        return None
    if isinstance(asked, str):
        return Path(asked).expanduser()
    named = os.environ.get(_VARIABLE)
    if named is not None:
        return None if named.strip().lower() in _OFF else Path(named).expanduser()
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return home / "sweeper" / "history.sqlite3"


class HistoryFile:
    """Opened anew for each question; the file and its folder are made by the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, facts: SweepFacts, trials: Iterable[PastTrial]) -> None:
        """Keep these trials of a sweep; those that are there already are replaced.

        Raises SweepFolderError where the file cannot be written.
        """
        rows = [(facts.id, *_trial_row(trial)) for trial in trials]
        with self._connected() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO sweeps VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "features = excluded.features, version = excluded.version",
                _sweep_row(facts),
            )
            connection.executemany("REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def sweeps(self) -> list[SweepOfHistory]:
        """All of them with their trials, the newest first; none where there is no file.

        Raises SweepFolderError where it cannot be read.
        """
        if not self.path.is_file():
            return []
        with self._connected() as connection:
            found = connection.execute("SELECT * FROM sweeps ORDER BY began_s DESC, id").fetchall()
            trials = connection.execute("SELECT * FROM trials ORDER BY sweep, number").fetchall()
        return [
            SweepOfHistory(
                facts=_sweep_of(row), trials=tuple(_trial_of(one[1:]) for one in trials if one[0] == row[0])
            )
            for row in found
        ]

    def forget(self, ids: Iterable[str]) -> None:
        """Remove sweeps with their trials."""
        with self._connected() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM sweeps WHERE id = ?", [(one,) for one in ids])

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                self._migrate(connection)
                yield connection
        except SweepFolderError:  # it is an OSError, too
            raise
        except (sqlite3.Error, OSError) as error:
            raise SweepFolderError.of(
                where=str(self.path),
                value=str(error),
                rule="the history of sweeps cannot be used",
                remedy="mend or move the file; or go without it: `search.history: false`, or "
                f"{_VARIABLE}=off",
            ) from error

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring an older file to this version. Raises SweepFolderError where it is one of a newer."""
        if _version(connection) == len(_MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # another process may have been faster
        if version > len(_MIGRATIONS):
            raise SweepFolderError.of(
                where=str(self.path),
                value=f"version {version}",
                rule="the history was written by a newer version of sweeper",
                remedy="use that version, or another file: `search.history: PATH`",
            )
        for statements in _MIGRATIONS[version:]:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _sweep_row(facts: SweepFacts) -> tuple[Any, ...]:
    features = json.dumps(asdict(facts.features))
    return (
        facts.id, facts.name, facts.metric, facts.mode, facts.began_s, facts.source, facts.version, features
    )  # fmt: skip


def _sweep_of(row: tuple[Any, ...]) -> SweepFacts:
    names = ("id", "name", "metric", "mode", "began_s", "source", "version", "features")
    return read_record(SweepFacts, dict(zip(names, (*row[:-1], json.loads(row[-1])), strict=True)))


def _trial_row(trial: PastTrial) -> tuple[Any, ...]:
    config, evaluations = json.dumps(trial.config), json.dumps(trial.evaluations)
    return (
        trial.number, trial.state, config, evaluations,
        trial.total_tokens, trial.seconds, trial.peak_memory_gib,
    )  # fmt: skip


def _trial_of(row: tuple[Any, ...]) -> PastTrial:
    names = (
        "number", "state", "config", "evaluations", "total_tokens", "seconds", "peak_memory_gib"
    )  # fmt: skip
    tree = dict(zip(names, row, strict=True))
    return read_record(
        PastTrial,
        tree | {"config": json.loads(tree["config"]), "evaluations": json.loads(tree["evaluations"])},
    )
