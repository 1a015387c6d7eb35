"""Which settings carry over from one sweep to another: each swapped alone, all else as the target's best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sweeper.recommend.compare.side import LR, SweepSide, near

if TYPE_CHECKING:
    from sweeper.space import Scalar

__all__ = ["LR_RATIO", "Setting", "Swap", "shared_settings"]

LR_RATIO = "training.lr / rule of thumb"
Verdict = Literal["carries over", "does not carry over", "not clear"]


@dataclass(frozen=True, kw_only=True)
class Swap:
    """One sweep's value of a field in the best configuration of another."""

    source: str
    target: str
    value: Scalar
    worse: float | None
    """By so much, in the metric; None where the target's trials do not tell, or never had such a value."""
    low: float | None
    high: float | None
    """95 %."""
    counts: float
    """What a difference must exceed to count in the target."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field that several sweeps searched."""

    path: str
    values: dict[str, Scalar]
    """Sweep -> the value of its best configuration; of ``LR_RATIO`` its ratio."""
    importances: dict[str, float]
    """Sweep -> its part of what all values explain, where that can be told."""
    swaps: tuple[Swap, ...]
    verdict: Verdict
    """It carries over where no swap costs more than what counts for nothing in its target; it does not where
    one costs more for sure (95 %)."""


def shared_settings(sides: Sequence[SweepSide]) -> Iterator[Setting]:
    """Those that at least two sweeps searched; the learning rate also by its ratio to the rule of thumb,
    where the rules differ."""
    paths = dict.fromkeys(one.path for side in sides for one in side.space.dimensions)
    for path in paths:
        having = [side for side in sides if side.space.dimension(path) and path in side.flat]
        having = [side for side in having if side.flat[path] is not None]
        if len(having) < 2:
            continue
        yield _setting(path, having, {side.label: side.flat[path] for side in having})
        if path == LR and len({side.rule_lr for side in having}) > 1:
            ratios: dict[str, Scalar] = {one.label: one.flat[LR] / one.rule_lr for one in having}
            yield _setting(LR_RATIO, having, ratios)


def _setting(path: str, having: Sequence[SweepSide], values: dict[str, Scalar]) -> Setting:
    swaps = tuple(
        _swap(path, one, other, values[one.label]) for one in having for other in having if one is not other
    )
    field = LR if path == LR_RATIO else path
    importances = {}
    for side in having:
        dimension = side.space.dimension(field)
        if dimension is not None and dimension.name in side.material.importances:
            importances[side.label] = side.material.importances[dimension.name]
    return Setting(path=path, values=values, importances=importances, swaps=swaps, verdict=_verdict(swaps))


def _swap(path: str, source: SweepSide, target: SweepSide, value: Scalar) -> Swap:
    dimension = target.space.dimension(LR if path == LR_RATIO else path)
    assert dimension is not None
    own = float(value) * target.rule_lr if path == LR_RATIO else value
    nearest, _ = near(dimension, own)
    found = None if nearest is None else target.swapped(dimension, nearest)
    return Swap(
        source=source.label,
        target=target.label,
        value=own,
        worse=None if found is None else found.mean,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        counts=target.small,
    )


def _verdict(swaps: Sequence[Swap]) -> Verdict:
    if any(
        one.worse is not None and one.low is not None and one.low > 0 and one.worse > one.counts
        for one in swaps
    ):
        return "does not carry over"
    if all(one.worse is not None and one.worse <= one.counts for one in swaps):
        return "carries over"
    return "not clear"
