"""Keeps MLflow's chatter, telemetry and look-ups away from the sweep."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path

from sweeper.track.uri import Redactor

__all__ = ["open_log", "set_environment"]

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # else the import gives its loggers handlers that write to stderr
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Read by MLflow 3 when it is imported or called; a user's own setting wins."""

_LOGGERS = ("mlflow", "alembic", "sqlalchemy", "huey", "sweeper.track")


def set_environment() -> None:
    """Must come before the first import of mlflow."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # A request that is sent again because its answer was lost makes a run twice. The writer repeats
    # calls itself, and looks first what has arrived.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    for module in ("mlflow", "alembic", "sqlalchemy"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


class _RedactingFormatter(logging.Formatter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        # After formatting, as tracebacks and SQL errors may quote the URI as well.
        return self._redact(super().format(record))


class _LogFile(logging.FileHandler):
    """Says nothing where its folder is gone: a process may outlive the folder of its sweep."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)


def open_log(path: Path, redact: Redactor) -> None:
    """Sends everything that MLflow and its database layers log to ``path``, and nothing to the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(_RedactingFormatter(redact))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for old in logger.handlers:
            if isinstance(old, logging.FileHandler):
                old.close()
        logger.handlers = [handler]
        logger.propagate = False
        # The migrations of a new store are a hundred lines at INFO.
        logger.setLevel(logging.INFO if name in ("mlflow", "sweeper.track") else logging.WARNING)
