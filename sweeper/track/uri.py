"""Where MLflow's store is, and how to speak of it without its password."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sweeper.errors import UserError

if TYPE_CHECKING:
    from sweeper.spec import Settings

__all__ = ["Redactor", "artifact_root", "masked", "sqlite_file", "tracking_uri"]

# Greedy up to the last "@", as a password may hold one.
_USER_INFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^:/?#@]*):(?P<password>.*)@")
_TOKEN_INFO = re.compile(r"(?P<scheme>https?://)(?P<token>[^:/?#@]+)@")
_QUERY_SECRET = re.compile(
    r"(?P<key>[?&;](?:password|passwd|pwd|sslpassword|token)=)(?P<secret>[^&;#]+)", re.I
)
_SHORTEST_SECRET = 6
"""A shorter password is only struck out where it stands in a URI: elsewhere it would hit plain words."""


def tracking_uri(settings: Settings, sweep_dir: Path) -> str:
    """The store of a sweep: the file's ``mlflow_uri``, else ``MLFLOW_TRACKING_URI``, else one SQLite file.

    The SQLite file stands beside the sweep's folder, so that all sweeps of a folder share it. SQLite
    paths come out absolute: the answer does not depend on where a later command is started.

    Raises:
        UserError: the URI is a plain path or a ``file:`` URI, which MLflow no longer takes.
    """
    given, place = settings.tracking.mlflow_uri, "tracking.mlflow_uri"
    if given is None:
        given, place = os.environ.get("MLFLOW_TRACKING_URI") or None, "MLFLOW_TRACKING_URI"
    if given is None:
        return f"sqlite:///{sweep_dir.absolute().parent / 'mlflow.db'}"
    _refuse_folder_store(given, place)
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
            value=uri,
            rule="MLflow keeps its store in a database or on a server, no longer in a plain folder",
            remedy="write sqlite:///path/to/mlflow.db, postgresql://..., mysql://..., http://... or https://...",
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


def masked(uri: str) -> str:
    """The URI with its password struck out: fit for a screen, a log or a tag."""
    uri = _USER_INFO.sub(r"\g<scheme>\g<user>:***@", uri)
    uri = _TOKEN_INFO.sub(r"\g<scheme>***@", uri)
    return _QUERY_SECRET.sub(r"\g<key>***", uri)


class Redactor:
    """Strikes one store's password out of any text. Immutable, so any thread may use it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._masked = masked(uri)
        user_info = _USER_INFO.search(uri) or _TOKEN_INFO.search(uri)
        found = [] if user_info is None else [user_info.groups()[-1]]
        found += [match["secret"] for match in _QUERY_SECRET.finditer(uri)]
        # Longest first, so that no secret is left behind as the rest of another.
        self._secrets = sorted(
            {form for text in found for form in (text, unquote(text))}, key=len, reverse=True
        )

    @property
    def has_secret(self) -> bool:
        return bool(self._secrets)

    def __call__(self, text: str) -> str:
        """The text without the password."""
        if not self._secrets:
            return text
        text = text.replace(self._uri, self._masked)
        for secret in self._secrets:
            text = text.replace(f":{secret}@", ":***@")
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text
