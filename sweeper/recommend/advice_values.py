"""Advice on the searched values: at an end, settled, of no matter; where to look next; and which made the
difference to the default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sweeper.recommend.advice import Advice, Evidence, between
from sweeper.recommend.ends import edge_lines
from sweeper.recommend.ranking import default_record
from sweeper.search import TrialRecord, edges, space_in_force
from sweeper.space import Choice, LogUniform, value_text

if TYPE_CHECKING:
    from sweeper.search import Edge, Interval
    from sweeper.space import Dimension, Scalar

__all__ = ["at_ends", "difference", "next_ranges", "no_matter", "settled"]

_EACH = 3
"""Complete trials that an option must have had to be compared."""
_GRID = 41
_NARROWER = 2.0
"""So much narrower than what was searched is worth saying."""
_CHEAPER = 0.1


def at_ends(evidence: Evidence) -> list[Advice]:
    """Ends of ranges at which the best lies, where what lies inside is worse for sure."""
    lines = edge_lines(evidence.space, evidence.trials)
    pairs = zip(_edges(evidence), lines, strict=True)
    return [Advice(about="edge", says=line) for edge, line in pairs if _is_sure(evidence, edge)]


def settled(evidence: Evidence) -> list[Advice]:
    """Lists of which the chosen option beats every other that was tried, and lies at no end."""
    said, ends = [], {one.name for one in _edges(evidence)}
    for one in evidence.surface.space.dimensions:
        rivals = _rivals(evidence, one)
        if one.name in ends or not rivals or any(interval.low <= 0 for _, interval in rivals):
            continue
        near, interval = min(rivals, key=lambda pair: pair[1].mean)
        words = value_text(evidence.best.values[one.name])
        said.append(
            Advice(
                about="settled",
                says=f"{one.name} is settled: {words} is better than {value_text(near)}, the next best of "
                f"{len(rivals) + 1}, by {between(interval)}",
            )
        )
    return said


def no_matter(evidence: Evidence) -> list[Advice]:
    """Lists whose options differ by less than counts, so that the cheapest will do."""
    said = []
    for one in evidence.surface.space.dimensions:
        rivals = _rivals(evidence, one)
        most = max((max(abs(found.low), abs(found.high)) for _, found in rivals), default=math.inf)
        if not rivals or most > evidence.small:
            continue
        said.append(
            Advice(
                about="no matter",
                says=f"{one.name} does not matter: its options differ by at most {most:.2g} of "
                f"{evidence.metric} (95 %), less than counts ({evidence.small:.2g}); "
                f"{_cheapest(evidence, one)}",
            )
        )
    return said


def next_ranges(evidence: Evidence) -> list[Advice]:
    """The part of a range that is not told apart from the best, where it is much narrower than the range and
    does not reach its end."""
    said, ends = [], {one.name for one in _edges(evidence)}
    for one in evidence.surface.space.dimensions:
        if isinstance(one.open_value, Choice) or one.name in ends or one.name not in evidence.best.values:
            continue
        found = _as_good(evidence, one)
        if found is None:
            continue
        low, high, outside = found
        said.append(
            Advice(
                about="next range",
                says=f"look for {one.name} between {low:.2g} and {high:.2g} next: outside of it "
                f"{evidence.metric} is worse than the chosen trial's by {outside:.2g} or more (95 %)",
            )
        )
    return said


def difference(evidence: Evidence) -> list[Advice]:
    """Which value made the difference to the default: the one whose default would cost most."""
    default = default_record(evidence.trials)
    if default is None or default.number == evidence.best.number:
        return []
    changed = [
        name
        for name, value in evidence.best.values.items()
        if name in default.values and default.values[name] != value
    ]
    if not changed:
        return []
    back = [{**evidence.best.values, name: default.values[name]} for name in changed]
    costs = dict(zip(changed, evidence.surface.behind(evidence.best.values, back), strict=True))
    name = max(costs, key=lambda one: costs[one].mean)
    others = [found.mean for other, found in costs.items() if other != name]
    if costs[name].low <= max([0.0, *others]):
        return []
    return [
        Advice(
            about="difference",
            says=f"{name} made the difference: with the default's {value_text(default.values[name])} the "
            f"chosen configuration would be worse by {between(costs[name])}",
        )
    ]


def _edges(evidence: Evidence) -> list[Edge]:
    return edges(space_in_force(evidence.space, evidence.trials), evidence.trials)


def _is_sure(evidence: Evidence, edge: Edge) -> bool:
    """Whether every other option, or the middle of the range, is worse."""
    dimension = evidence.surface.space.dimension(edge.name)
    assert dimension is not None
    if isinstance(dimension.open_value, Choice):
        rivals = _rivals(evidence, dimension)
        return bool(rivals) and all(found.low > 0 for _, found in rivals)
    low, high = float(dimension.open_value.low), float(dimension.open_value.high)
    is_log = isinstance(dimension.open_value, LogUniform)
    middle = math.sqrt(low * high) if is_log else (low + high) / 2
    (found,) = evidence.surface.behind(evidence.best.values, [{**evidence.best.values, edge.name: middle}])
    return found.low > 0


def _rivals(evidence: Evidence, dimension: Dimension) -> list[tuple[Scalar, Interval]]:
    if dimension.name not in evidence.rivals:
        evidence.rivals[dimension.name] = _found_rivals(evidence, dimension)
    return evidence.rivals[dimension.name]


def _found_rivals(evidence: Evidence, dimension: Dimension) -> list[tuple[Scalar, Interval]]:
    """Each other option that was tried, and how much worse it is than the chosen one; empty where one was not
    tried often enough."""
    value = evidence.best.values.get(dimension.name)
    if not isinstance(dimension.open_value, Choice) or value is None or dimension.when:
        return []
    counts = {option: len(_with(evidence, dimension, option)) for option in dimension.open_value.options}
    if counts.get(value, 0) < _EACH or any(0 < count < _EACH for count in counts.values()):
        return []
    return [
        (option, evidence.surface.effect(dimension.name, value, option))
        for option, count in counts.items()
        if option != value and count
    ]


def _with(evidence: Evidence, dimension: Dimension, option: Scalar) -> list[TrialRecord]:
    return [one for one in evidence.complete if one.values.get(dimension.name) == option]


def _cheapest(evidence: Evidence, dimension: Dimension) -> str:
    """Which option trains fastest, where one does by a tenth."""
    assert isinstance(dimension.open_value, Choice)
    seconds: dict[Scalar, float] = {}
    for option in dimension.open_value.options:
        took = [one.seconds or 0.0 for one in _with(evidence, dimension, option)]
        if took:
            seconds[option] = sum(took) / len(took)
    least = min(seconds, key=lambda one: seconds[one])
    most = max(seconds.values())
    if seconds[least] > (1 - _CHEAPER) * most:
        return "all cost the same"
    return (
        f"take the cheapest, {value_text(least)} ({seconds[least]:.3g} s a trial, others up to {most:.3g} s)"
    )


def _as_good(evidence: Evidence, dimension: Dimension) -> tuple[float, float, float] | None:
    """Ends of the stretch around the best that is not told apart from it, and by how much worse the rest is
    at least; None where it is no narrower stretch inside the range."""
    assert not isinstance(dimension.open_value, Choice)
    low, high = float(dimension.open_value.low), float(dimension.open_value.high)
    is_log = isinstance(dimension.open_value, LogUniform)
    parts = [place / (_GRID - 1) for place in range(_GRID)]
    steps = [low * (high / low) ** part if is_log else low + part * (high - low) for part in parts]
    found = evidence.surface.behind(
        evidence.best.values, [{**evidence.best.values, dimension.name: one} for one in steps]
    )
    good = [place for place, one in enumerate(found) if one.low <= 0]
    if not good or good[0] == 0 or good[-1] == _GRID - 1 or good != list(range(good[0], good[-1] + 1)):
        return None
    first, last = good[0] - 1, good[-1] + 1
    if (last - first) * _NARROWER > _GRID - 1:
        return None
    return steps[first], steps[last], min(found[first].low, found[last].low)
