"""A trial's searched values as MLflow's charts can draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeper.space import LogUniform

if TYPE_CHECKING:
    from sweeper.space import Scalar, Space

__all__ = ["chart_params"]


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
