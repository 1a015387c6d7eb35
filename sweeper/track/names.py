"""What a trial is called in lists of runs: its number and its searched values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeper.space import Choice, LogUniform, short_label

if TYPE_CHECKING:
    from sweeper.space import OpenValue, Scalar, Space

__all__ = ["old_run_name", "run_name"]

_CHARACTERS, _WORD_CHARACTERS = 80, 24
_BETWEEN = " · "
_MOST_DIGITS = 17
"""Two different floats differ within so many digits."""


def run_name(space: Space, number: int, values: Mapping[str, Scalar]) -> str:
    """``2 · lr 2.4e-3 · linear · 3 ep · accum 1``: at most 80 characters, what does not fit is counted."""
    parts = [_part(space, name, value) for name, value in values.items()]
    shown = len(parts)
    while len(name := _joined(number, parts, shown)) > _CHARACTERS and shown:
        shown -= 1
    return name


def old_run_name(number: int) -> str:
    """What the run of a trial was called before it had its values in its name."""
    return f"trial-{number}"


def _joined(number: int, parts: list[str], shown: int) -> str:
    rest = [f"+{len(parts) - shown}"] if shown < len(parts) else []
    return _BETWEEN.join([str(number), *parts[:shown], *rest])


def _part(space: Space, name: str, value: Scalar) -> str:
    dimension = space.dimension(name)
    said = _word(value) if dimension is None else _value(dimension.open_value, value)
    if name == "scheduler":  # its words are nothing else's
        return said
    return f"{said} ep" if name == "epochs" else f"{short_label(space, name)} {said}"


def _value(open_value: OpenValue, value: Scalar) -> str:
    """With as few digits as tell the options from each other; of a range as many as matter."""
    if not isinstance(value, float):
        return _word(value)
    if not isinstance(open_value, Choice):
        return _number(value, 2 if isinstance(open_value, LogUniform) else 3)
    numbers = [one for one in open_value.options if isinstance(one, (int, float))]
    for digits in range(2, _MOST_DIGITS):
        if len({_number(float(one), digits) for one in numbers}) == len(numbers):
            return _number(value, digits)
    return _number(value, _MOST_DIGITS)


def _number(value: float, digits: int) -> str:
    """``3``, ``0.05``, ``2.4e-3``."""
    if value.is_integer() and abs(value) < 10_000:
        return str(int(value))
    if 1e-2 <= abs(value) < 10_000:
        return f"{value:.{max(digits, math.floor(math.log10(abs(value))) + 1)}g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "".join(one if one.isprintable() else " " for one in str(value))
    return text if len(text) <= _WORD_CHARACTERS else f"{text[: _WORD_CHARACTERS - 1]}…"
