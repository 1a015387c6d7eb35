"""Where MLflow's store is, and how to speak of it without its password."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.errors import UserError
from sweeper.redact import Redactor, is_struck, masked

if TYPE_CHECKING:
    from sweeper.space import Settings

__all__ = ["Redactor", "artifact_root", "masked", "sqlite_file", "tracking_uri"]


def tracking_uri(settings: Settings, sweep_dir: Path) -> str:
    """The store of a sweep: the file's ``mlflow_uri``, else ``MLFLOW_TRACKING_URI``, else one SQLite file.

    The SQLite file stands beside the sweep's folder, so that all sweeps of a folder share it. SQLite
    paths come out absolute: the answer does not depend on where a later command is started.

    Where the file's password was struck out, ``MLFLOW_TRACKING_URI`` gives the address again.

    Raises:
        UserError: the URI is a plain path or a ``file:`` URI, which MLflow no longer takes, or its
            password is not known here.
    """
    given, place = settings.tracking.mlflow_uri, "tracking.mlflow_uri"
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI") or None
    if given is None or (is_struck(given) and elsewhere is not None):
        given, place = elsewhere, "MLFLOW_TRACKING_URI"
    if given is None:
        return f"sqlite:///{sweep_dir.absolute().parent / 'mlflow.db'}"
    _refuse_folder_store(given, place)
    _refuse_struck(given, place)
    file = sqlite_file(given)
    if file is None:
        return given
    head, query = given.split("///", 1)[0], given.partition("?")[2]
    return f"{head}///{file}" + (f"?{query}" if query else "")


def _refuse_folder_store(uri: str, place: str) -> None:
    is_folder = uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks"))
    if is_folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("1", "true"):
        raise UserError.of(
            where=place,
            value=masked(uri),
            rule="MLflow keeps its store in a database or on a server, no longer in a plain folder",
            remedy="write sqlite:///path/to/mlflow.db, postgresql://..., mysql://..., http://... or https://...",
        )


def _refuse_struck(uri: str, place: str) -> None:
    if is_struck(uri):
        raise UserError.of(
            where=place,
            value=uri,
            rule="the password of MLflow's store was struck out",
            remedy="give the whole address in MLFLOW_TRACKING_URI; or put back the sweep's secrets.json",
        )


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of a SQLite store's file; None for any other store and for one in memory."""
    match = re.match(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)", uri)
    if match is None or match["path"] == ":memory:":
        return None
    return Path(match["path"]).absolute()


def artifact_root(uri: str) -> Path | None:
    """The folder of artifacts, beside a SQLite store's file; None where a server or database decides."""
    file = sqlite_file(uri)
    return None if file is None else file.parent / "mlartifacts"
