"""What an LR range test means for the range that a space file has."""

from __future__ import annotations

from sweeper.autotune.bracket import Bracket, LrRange
from sweeper.space import LogUniform, OpenValue, Scalar
from sweeper.space.config.values import describe, points, text

__all__ = ["compared", "lr_span", "settled", "suggested"]

_TINY = 2.0
"""A range whose ends differ by less than this factor leaves nothing to search."""


def suggested(bracket: Bracket) -> LogUniform:
    """The range to search, to two digits."""
    return LogUniform(float(f"{bracket.low:.1e}"), float(f"{bracket.high:.1e}"))


def settled(asked: LogUniform, found: LrRange, *, within: bool) -> tuple[LogUniform, str]:
    """The range that a sweep is to search, and why, as a sentence without a full stop.

    ``within`` keeps it inside ``asked``. A test that shows nothing to go by leaves ``asked`` as it is.
    """
    kept = f"warning: lr is searched over {describe(asked)}, as it was:"
    if found.bracket is None:
        return asked, f"{kept} {found.finding}"
    useful = suggested(found.bracket)
    low, high = useful.low, useful.high
    if within:
        low, high = max(asked.low, low), min(asked.high, high)
    if high >= low * _TINY:
        chosen = LogUniform(low, high)
        return chosen, f"lr is searched over {describe(chosen)}: {found.finding}"
    little = "has next to nothing in common with it" if within else "is too narrow to search"
    return asked, f"{kept} the range that the test found, {describe(useful)}, {little}"


def lr_span(value: OpenValue | Scalar) -> tuple[float, float]:
    """The lowest and the highest of a learning rate's values, open or closed."""
    values = [value] if isinstance(value, (bool, int, float, str)) else points(value)
    numbers = [float(one) for one in values]
    return min(numbers), max(numbers)


def compared(asked: tuple[float, float], found: LogUniform) -> str:
    """How the values of the file lie to the range that was found, as a sentence without a full stop."""
    low, high = asked
    one = low == high
    said = f"the file's lr, {text(low)}," if one else f"the file's lr range, {text(low)} to {text(high)},"
    if high < found.low or low > found.high:
        where = "below" if high < found.low else "above"
        return f"{said} lies {'' if one else 'wholly '}{where} it"
    if found.low <= low and high <= found.high:
        return f"{said} lies inside it"
    low_end = f"too low at its low end (below {text(found.low)} little is learned)"
    high_end = f"too high at its high end (above {text(found.high)} the loss rises again)"
    faults = [low_end] * (low < found.low) + [high_end] * (high > found.high)
    return f"{said} is {' and '.join(faults)}"
