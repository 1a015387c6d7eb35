"""Opening the ledger's study and its database: SQLite in the sweep's folder, or any that SQLAlchemy reaches.

SQLite keeps its rollback journal and gets a long busy timeout. Write-ahead logging would save a
millisecond for each commit, and does not work when the folder lies on a network file system, as the
folder of a sweep on a cluster does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweeper.errors import MissingDependencyError, SweepFolderError, first_line
from sweeper.redact import Redactor, masked
from sweeper.search.storage import SQLITE, driver_address

if TYPE_CHECKING:
    from sweeper.search.retrying_storage import PatientStorage

__all__ = ["create_study", "open_database", "open_study", "study_names"]

_BUSY_TIMEOUT_S = 60
_CONNECT_TIMEOUT_S = 5
_SILENCE_S = 30
"""A connection over which nothing comes for so long is taken for broken."""
_PATIENCE_S = 60.0
"""A server that is away in mid-sweep, as while it is restarted, is waited for so long."""


def create_study(
    url: str, name: str, direction: Literal["minimize", "maximize"]
) -> tuple[PatientStorage, int]:
    """A new study for a sweep of this name.

    Raises SweepFolderError where the database holds one already, or cannot be opened.
    """
    import optuna

    storage = open_database(url, must_exist=False)
    try:
        study_id = storage.create_new_study([optuna.study.StudyDirection[direction.upper()]], name)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise SweepFolderError.of(
            where="the sweep's database",
            value=name,
            rule="a sweep of this name is already there",
            remedy=f"write another name than {name}; or go on with that sweep: `sweeper resume` and its "
            "folder",
        ) from error
    return storage, study_id


def open_study(url: str, name: str) -> tuple[PatientStorage, int]:
    """The study of an existing sweep.

    Raises SweepFolderError where there is no such database, or no sweep of this name in it.
    """
    storage = open_database(url, must_exist=True)
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError as error:
        raise SweepFolderError.of(
            where="the sweep's database",
            value=name,
            rule="there is no sweep of this name in it",
            remedy=f"the database holds {', '.join(study_names(storage)) or 'no sweep at all'}",
        ) from error
    return storage, study_id


def study_names(storage: PatientStorage) -> list[str]:
    """The sweeps that a database holds."""
    return [study.study_name for study in storage.get_all_studies()]


def open_database(url: str, *, must_exist: bool) -> PatientStorage:
    """A storage that commits each call before it returns; its calls may raise LedgerAwayError.

    Raises:
        SweepFolderError: there is no such file where ``must_exist``, it is no database, or the server
            does not answer.
        MissingDependencyError: the driver of that kind of database is not installed.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    from sweeper.search.retrying_storage import PatientStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    is_file = url.startswith("sqlite")
    if must_exist:
        _check_file(url)
    try:
        return PatientStorage(
            driver_address(url),
            shown=masked(url),
            engine_options=_engine_options(url),
            must_exist=must_exist,
            patience_s=0.0 if is_file else _PATIENCE_S,
        )
    except ImportError as error:
        raise MissingDependencyError.of(
            where=masked(url),
            value=url.partition(":")[0],
            rule="no driver is installed for this kind of database",
            remedy="pip install 'sweeper[postgresql]', or 'sweeper[mysql]'",
        ) from error
    except (SQLAlchemyError, RuntimeError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        raise SweepFolderError.of(
            where=masked(url),
            value=Redactor(url)(first_line(cause)),
            rule="the sweep's database cannot be opened",
            remedy="check the path, the rights on it, and that it is a sweep's study.db"
            if is_file
            else "check address, user and password (in the address, PGPASSWORD or ~/.pgpass), and that the "
            "server runs",
        ) from error


def _check_file(url: str) -> None:
    """SQLite would make an empty database of a wrong path."""
    path = url.removeprefix(SQLITE)
    if url.startswith(SQLITE) and not Path(path).is_file():
        raise SweepFolderError.of(
            where=path,
            value="",
            rule="there is no sweep's database here",
            remedy="give the folder of a sweep, the one that holds study.db",
        )


def _engine_options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    arguments: dict[str, Any] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    if url.startswith("postgresql"):
        # libpq's: TCP itself would wait a quarter of an hour for a server that has vanished.
        arguments |= {
            "keepalives_idle": _SILENCE_S // 3,
            "keepalives_interval": _SILENCE_S // 3,
            "keepalives_count": 2,
            "tcp_user_timeout": _SILENCE_S * 1000,
        }
    else:
        arguments |= {"read_timeout": _SILENCE_S, "write_timeout": _SILENCE_S}
    # A trial may take hours between two commits, and servers drop idle connections.
    return {"pool_pre_ping": True, "connect_args": arguments}
