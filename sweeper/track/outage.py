"""What an error of MLflow means: is its store away, is it in trouble, or does it refuse what it was given?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

__all__ = ["Verdict", "first_cause", "judge"]

_BUSY = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP says with these that the same request may be taken later."""


class Verdict(Enum):
    AWAY = "away"
    """The store cannot be reached or has no time: it takes the same thing later."""
    TROUBLED = "troubled"
    """The store was reached and failed (HTTP 500): it may take the same thing later, or never."""
    REFUSED = "refused"
    """It will never take this."""


def judge(error: BaseException) -> Verdict:
    """By the error and what caused it. Imports what mlflow has imported before it can fail."""
    for one in _chain(error):
        verdict = _transport(one) or _database(one) or _code(one)
        if verdict is not None:
            return verdict
    is_internal = any(getattr(one, "error_code", None) == "INTERNAL_ERROR" for one in _chain(error))
    return Verdict.TROUBLED if is_internal else Verdict.REFUSED


def first_cause(error: BaseException) -> BaseException:
    """What users want to know of a long story of wrapped errors: ``Connection refused``."""
    return list(_chain(error))[-1]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and, one after another, what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _transport(error: BaseException) -> Verdict | None:
    import requests
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

    if isinstance(error, (InvalidSchema, InvalidURL, MissingSchema)):
        return Verdict.REFUSED
    if isinstance(error, requests.exceptions.RetryError):
        # The only place where the status stands once requests has given up on it.
        status = re.search(r"too many (\d+) error responses", str(error))
        return Verdict.AWAY if status is None else _of_status(int(status[1]))
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return _of_status(error.response.status_code)
    lost = (requests.exceptions.ConnectionError, requests.exceptions.Timeout, ConnectionError, TimeoutError)
    return Verdict.AWAY if isinstance(error, lost) or _is_of_object_store(error) else None


def _is_of_object_store(error: BaseException) -> bool:
    """Artifacts may go to S3 directly, by a package that need not be installed."""
    kin: list[Any] = [base for base in type(error).__mro__ if base.__module__ == "botocore.exceptions"]
    return any(base.__name__ in ("ConnectionError", "HTTPClientError") for base in kin)


def _database(error: BaseException) -> Verdict | None:
    import sqlalchemy.exc as sql

    # OperationalError: "database is locked", a server that closed the connection or is not there.
    away = isinstance(error, (sql.OperationalError, sql.InterfaceError, sql.TimeoutError))
    return Verdict.AWAY if away else None


def _code(error: BaseException) -> Verdict | None:
    """MLflow's own word, where it says more than its default, which is an internal error."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or error.error_code == "INTERNAL_ERROR":
        return None
    return _of_status(error.get_http_status_code())


def _of_status(status: int) -> Verdict:
    if status in _BUSY:
        return Verdict.AWAY
    return Verdict.TROUBLED if status >= 500 else Verdict.REFUSED
