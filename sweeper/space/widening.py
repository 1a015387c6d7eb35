"""Open values made wider on one side, where the best of a search lies at their end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from sweeper.space.checks import GROUPS
from sweeper.space.config.closing import DP
from sweeper.space.config.fields import Leaf, leaf_of
from sweeper.space.config.values import Choice, IntRange, LogUniform, OpenValue, is_number
from sweeper.space.engine.section import VALUES
from sweeper.space.plan.system import SYSTEM
from sweeper.space.space import Dimension, Space

__all__ = ["Side", "is_ordered", "is_sound", "wider", "with_open_values"]

Side = Literal["lower", "upper"]

_NOT_WIDENED = SYSTEM | {DP, "training.seed"}
"""More of them is not better or worse, or is another machine."""
_WORTH = 0.01
"""A range that would grow by less of its width stays as it is."""


def wider(dimension: Dimension, side: Side, factor: float) -> OpenValue | None:
    """The open value with one end further out; None where the field allows no more, or has no order.

    A log range grows by the factor, a linear one by its width, a list of at least three numbers by one of
    them: at its own last step where its last steps are equal, else at its own last ratio. An end that would
    leave what the field allows is put at the field's bound, or, where that is excluded, half-way to it.
    """
    leaf, open_value = leaf_of(dimension.path), dimension.open_value
    if dimension.path.startswith(VALUES):
        return None  # what another trainer's key allows is not known here
    if dimension.path in _NOT_WIDENED or leaf.kind not in ("number", "whole"):
        return None
    if isinstance(open_value, Choice):
        return _longer(leaf, open_value, side) if is_ordered(open_value) else None
    if isinstance(open_value, IntRange):
        return _longer_range(leaf, open_value, side)
    low, high = open_value.low, open_value.high
    old, is_upper = (high, True) if side == "upper" else (low, False)
    if isinstance(open_value, LogUniform):
        aim = old * factor if is_upper else old / factor
    else:
        aim = old + (high - low) if is_upper else old - (high - low)
    new = _allowed(leaf, old, float(f"{aim:.6g}"))
    is_log = isinstance(open_value, LogUniform) and new > 0
    grown = abs(math.log(new / old)) / math.log(high / low) if is_log else abs(new - old) / (high - low)
    if grown < _WORTH:
        return None
    return replace(open_value, high=new) if is_upper else replace(open_value, low=new)


def is_ordered(open_value: OpenValue) -> bool:
    """Whether there is an end at which the best may lie: of a range, or of at least three numbers."""
    if not isinstance(open_value, Choice):
        return True
    return len(open_value.options) >= 3 and all(map(is_number, open_value.options))


def with_open_values(space: Space, open_values: Mapping[str, OpenValue]) -> Space:
    """The same with other open values, by the names of their dimensions. The search still starts where it
    started."""
    return replace(
        space,
        dimensions=tuple(
            replace(one, open_value=open_values[one.name], rule_of_thumb=one.default)
            if one.name in open_values
            else one
            for one in space.dimensions
        ),
    )


def is_sound(space: Space) -> bool:
    """Whether no combination of open values contradicts itself."""
    return not any(space.attempt(values)[1] for group in GROUPS for values in space.combinations(group))


def _longer(leaf: Leaf, choice: Choice, side: Side) -> Choice | None:
    numbers = sorted(one for one in choice.options if is_number(one))
    before, last, end = numbers[-3:] if side == "upper" else numbers[2::-1]
    step = end - last
    if math.isclose(step, last - before, rel_tol=1e-6):
        aim = float(f"{end + step:.6g}")
    elif last * end > 0:
        aim = float(f"{end * (end / last):.2g}")
    else:
        return None
    new = _allowed(leaf, end, round(aim) if leaf.kind == "whole" else aim)
    if new == end:
        return None
    value = int(new) if leaf.kind == "whole" else new
    is_last = choice.options[-1] == end
    return Choice((*choice.options, value) if is_last else (value, *choice.options))


def _longer_range(leaf: Leaf, span: IntRange, side: Side) -> IntRange | None:
    old, sign = (span.high, 1) if side == "upper" else (span.low, -1)
    width = span.high - span.low
    reach = min(width, math.floor(abs(_allowed(leaf, old, old + sign * width) - old)))
    steps = reach // span.step
    if steps < 1:
        return None
    new = old + sign * steps * span.step
    return replace(span, high=new) if side == "upper" else replace(span, low=new)


def _allowed(leaf: Leaf, old: float, aim: float) -> float:
    """The aim, or what the field allows between the old end and it."""
    if _is_valid(leaf, aim):
        return aim
    schema = leaf.adapter.json_schema()
    bound, excluded = ("maximum", "exclusiveMaximum") if aim > old else ("minimum", "exclusiveMinimum")
    if bound in schema:
        return float(schema[bound])
    if excluded in schema:
        return (old + float(schema[excluded])) / 2
    return old


def _is_valid(leaf: Leaf, value: float) -> bool:
    try:
        leaf.validate(int(value) if leaf.kind == "whole" else value)
    except ValueError:
        return False
    return True
