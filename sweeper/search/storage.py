"""``search.storage``: which databases a ledger can be in, told without importing any of their packages."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sweeper.errors import Problem, SpaceFileError
from sweeper.redact import is_struck, masked

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = ["SQLITE", "absolute_address", "check_storage", "driver_address"]

SQLITE = "sqlite:///"
_EXAMPLES = "postgresql://user:password@host/database, mysql+pymysql://... or sqlite:///path"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What an address begins with, and what reads it."""

    drivers: tuple[str, ...]
    """SQLAlchemy's names of drivers; the first one that is installed is taken."""
    extra: str


_SERVERS = {
    "postgresql": _Kind(drivers=("psycopg", "psycopg2"), extra="postgresql"),
    "postgresql+psycopg": _Kind(drivers=("psycopg",), extra="postgresql"),
    "postgresql+psycopg2": _Kind(drivers=("psycopg2",), extra="postgresql"),
    "mysql": _Kind(drivers=("pymysql",), extra="mysql"),
    "mysql+pymysql": _Kind(drivers=("pymysql",), extra="mysql"),
}
_MEANT = {"postgres": "postgresql", "psql": "postgresql", "mariadb": "mysql+pymysql"}


def check_storage(space: Space) -> None:
    """The address of the ledger can be used here. Connects to nothing.

    Raises:
        SpaceFileError: it names no database that a ledger can be in, or its driver is not installed.
    """
    address = space.settings.search.storage
    if address is None:
        return
    found = _fault(address)
    if found is not None:
        where = space.places.get("search.storage", str(space.source))
        rule, remedy = found
        raise SpaceFileError([Problem(where=where, value=masked(address), rule=rule, remedy=remedy)])


def driver_address(address: str) -> str:
    """The address with the driver in it that is installed: which one SQLAlchemy takes by itself differs
    from version to version."""
    scheme, _, rest = address.partition("://")
    if scheme not in _SERVERS:
        return address
    driver = _driver(_SERVERS[scheme]) or _SERVERS[scheme].drivers[0]
    return f"{scheme.partition('+')[0]}+{driver}://{rest}"


def absolute_address(address: str) -> str:
    """The path of an SQLite file in full, so that a later command may start in another folder."""
    if not address.startswith(SQLITE):
        return address
    return SQLITE + str(Path(address.removeprefix(SQLITE)).expanduser().absolute())


def _driver(kind: _Kind) -> str | None:
    return next((name for name in kind.drivers if importlib.util.find_spec(name) is not None), None)


def _fault(address: str) -> tuple[str, str] | None:
    """Rule and remedy; None for an address that can be used."""
    scheme, separator, _ = address.partition("://")
    if address.startswith("sqlite"):
        return _sqlite_fault(address)
    if not separator or scheme not in _SERVERS:
        near = _MEANT.get(scheme)
        remedy = f"write {near}://..." if near else f"write {_EXAMPLES}"
        return "names no kind of database that a ledger can be in", remedy
    if is_struck(address):
        return "*** stands for a password that was struck out", "write the password itself"
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname or parts.query) and parts.port != 0 and parts.netloc.count("@") <= 1
    except ValueError:
        named = False
    if not named:
        return (
            "host and port cannot be told from the rest",
            f"write {scheme}://user:password@host:port/database, special characters of the password "
            "percent-encoded (@ is %40, / is %2F)",
        )
    if not unquote(parts.path).strip("/"):
        return "names no database on the server", "add its name: ...host/database"
    kind = _SERVERS[scheme]
    if _driver(kind) is None:
        return f"no driver of {scheme}:// is installed", f"pip install 'sweeper[{kind.extra}]'"
    return None


def _sqlite_fault(address: str) -> tuple[str, str] | None:
    path = address.removeprefix(SQLITE)
    if not address.startswith(SQLITE) or not path or path.startswith(":memory:") or "?" in path:
        return "names no SQLite file", "write sqlite:///path/to/study.db"
    if not Path(path).expanduser().absolute().parent.is_dir():
        return "the folder of the SQLite file does not exist", "make it, or give another path"
    return None
