"""Open values: a choice of options or a range, left for the sweep to close."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

__all__ = [
    "Choice",
    "IntRange",
    "LogUniform",
    "OpenValue",
    "Scalar",
    "Uniform",
    "Values",
    "as_tree",
    "describe",
    "from_tree",
    "is_inside",
    "is_number",
    "nearest",
    "points",
    "text",
]

Scalar = bool | int | float | str
"""One closed value."""
Values = dict[str, Scalar]
"""Dimension name -> closed value."""


@dataclass(frozen=True)
class Choice:
    """One of several options, written as a list."""

    options: tuple[Scalar, ...]


@dataclass(frozen=True)
class Uniform:
    """Any number between two bounds, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class LogUniform:
    """Any number between two positive bounds, every factor of the way equally likely."""

    low: float
    high: float


@dataclass(frozen=True)
class IntRange:
    """The whole numbers low, low + step, ... high."""

    low: int
    high: int
    step: int = 1


OpenValue = Choice | Uniform | LogUniform | IntRange


def text(value: object) -> str:
    """A value as it would be written in the file: ``true``, ``none``, ``1e-05``, ``3``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text(item)}" for key, item in value.items()) + "}"
    return str(value)


def describe(open_value: OpenValue) -> str:
    """An open value in a few words, for tables."""
    if isinstance(open_value, Choice):
        return " | ".join(text(option) for option in open_value.options)
    bounds = f"{text(open_value.low)} .. {text(open_value.high)}"
    if isinstance(open_value, LogUniform):
        return f"{bounds} (log)"
    if isinstance(open_value, IntRange):
        return bounds + (f" by {open_value.step}" if open_value.step != 1 else "")
    return bounds


def as_tree(open_value: OpenValue) -> list[Any] | dict[str, Any]:
    """An open value as it stands in a space file."""
    if isinstance(open_value, Choice):
        return list(open_value.options)
    if isinstance(open_value, IntRange):
        step = {"step": open_value.step} if open_value.step != 1 else {}
        return {"int": [open_value.low, open_value.high], **step}
    kind = "log_uniform" if isinstance(open_value, LogUniform) else "uniform"
    return {kind: [open_value.low, open_value.high]}


def from_tree(tree: list[Any] | Mapping[str, Any]) -> OpenValue:
    """The inverse of ``as_tree``."""
    if not isinstance(tree, Mapping):
        return Choice(tuple(tree))
    if "int" in tree:
        low, high = tree["int"]
        return IntRange(low, high, tree.get("step", 1))
    kind = LogUniform if "log_uniform" in tree else Uniform
    return kind(*next(iter(tree.values())))


def points(open_value: OpenValue) -> tuple[Scalar, ...]:
    """Every value of a finite open value, and the two ends of a continuous or a very long one."""
    if isinstance(open_value, Choice):
        return open_value.options
    if isinstance(open_value, IntRange) and (open_value.high - open_value.low) // open_value.step < 4096:
        return tuple(range(open_value.low, open_value.high + 1, open_value.step))
    return (open_value.low, open_value.high)


def is_inside(open_value: OpenValue, value: Scalar) -> bool:
    """Whether a value is among those that the open value allows."""
    if isinstance(open_value, Choice):
        return value in open_value.options
    if isinstance(value, (str, bool)):
        return False
    if isinstance(open_value, IntRange):
        return open_value.low <= value <= open_value.high and (value - open_value.low) % open_value.step == 0
    return open_value.low <= value <= open_value.high


def nearest(open_value: OpenValue, value: Scalar) -> Scalar:
    """The value nearest to the given one among those that the open value allows.

    Numbers are near by their ratio where all are positive, else by their difference; of two
    equally near ones the first is taken. Words and switches are taken as they are, or the first.
    """
    if isinstance(open_value, Choice):
        if value in open_value.options:
            return value
        return _nearest_option(open_value.options, value)
    if isinstance(value, (str, bool)):
        raise TypeError(f"{value!r} is not a number, and {describe(open_value)} are")
    clipped = min(max(value, open_value.low), open_value.high)
    if isinstance(open_value, IntRange):
        steps = round((clipped - open_value.low) / open_value.step)
        return min(open_value.low + steps * open_value.step, open_value.high)
    return float(clipped)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number, and no switch."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _nearest_option(options: tuple[Scalar, ...], value: Scalar) -> Scalar:
    numbers = [one for one in (value, *options) if is_number(one)]
    if len(numbers) <= len(options):
        return options[0]
    aim, *candidates = numbers
    if min(numbers) > 0:
        return min(candidates, key=lambda option: abs(math.log(option) - math.log(aim)))
    return min(candidates, key=lambda option: abs(option - aim))
