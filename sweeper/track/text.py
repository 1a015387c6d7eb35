"""Names and values as MLflow takes them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sweeper.space import LogUniform

if TYPE_CHECKING:
    from sweeper.space import Scalar, Space

__all__ = ["chart_params", "cut", "flatten", "key"]

_KEY_LIMIT = 250
"""MLflow's, in mlflow.utils.validation and the same on its servers."""


def chart_params(space: Space, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The values, and beside each value of a log range its decimal logarithm as ``<name>_log10``.

    MLflow's parallel coordinates have linear axes only, on which learning rates lie on top of each other.
    """
    logs = {
        f"{one.name}_log10": round(math.log10(float(values[one.name])), 4)
        for one in space.dimensions
        if isinstance(one.open_value, LogUniform) and one.name in values
    }
    return {**values, **logs}


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
