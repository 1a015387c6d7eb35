"""Names and values as MLflow takes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["cut", "flatten", "key", "quoted"]

_KEY_LIMIT = 250
"""MLflow's, in mlflow.utils.validation and the same on its servers."""


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of each leaf, written as in a space file: ``true``, ``null``, ``1e-05``."""
    for name, value in params.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{dotted}.")
        else:
            yield dotted, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        # 2.0 and 2 must be one value on an axis of MLflow's charts.
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)


def key(name: str) -> str:
    """A name with MLflow's characters only."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:_KEY_LIMIT]


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def quoted(text: str) -> str:
    """Fit to stand between quotes in a search."""
    return text.replace("'", "")
