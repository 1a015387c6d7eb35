"""Opening the ledger's database: SQLite in the sweep's folder, or any database that SQLAlchemy reaches.

SQLite keeps its rollback journal and gets a long busy timeout. Write-ahead logging would save a
millisecond for each commit, and does not work when the folder lies on a network file system, as the
folder of a sweep on a cluster does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import MissingDependencyError, SweepFolderError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["open_database"]

_SQLITE = "sqlite:///"
_BUSY_TIMEOUT_S = 60


def open_database(url: str, *, must_exist: bool) -> BaseStorage:
    """A storage that commits each call before it returns.

    Raises:
        SweepFolderError: there is no such file where ``must_exist``, it is no database, or the server
            does not answer.
        MissingDependencyError: the driver of that kind of database is not installed.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if must_exist:
        _check_file(url)
    try:
        return optuna.storages.get_storage(
            optuna.storages.RDBStorage(url, engine_kwargs=_engine_options(url))
        )
    except ImportError as error:
        raise MissingDependencyError.of(
            where=_shown(url),
            value=url.partition(":")[0],
            rule="no driver is installed for this kind of database",
            remedy="pip install psycopg2-binary for postgresql://, PyMySQL for mysql+pymysql://",
        ) from error
    except (SQLAlchemyError, RuntimeError, optuna.exceptions.StorageInternalError) as error:
        raise SweepFolderError.of(
            where=_shown(url),
            value=str(error).splitlines()[0],
            rule="the sweep's database cannot be opened",
            remedy="check the path or the address, the rights on it, and that it is a sweep's study.db",
        ) from error


def _check_file(url: str) -> None:
    """SQLite would make an empty database of a wrong path."""
    path = url.removeprefix(_SQLITE)
    if url.startswith(_SQLITE) and not Path(path).is_file():
        raise SweepFolderError.of(
            where=path,
            value="",
            rule="there is no sweep's database here",
            remedy="give the folder of a sweep, the one that holds study.db",
        )


def _engine_options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    # A trial may take hours between two commits, and servers drop idle connections.
    return {"pool_pre_ping": True}


def _shown(url: str) -> str:
    """The address without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition("://")[0] + "://..."
