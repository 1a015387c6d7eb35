"""Spans of time as people write them: ``90s``, ``45m``, ``2h``, ``1h30m``, ``1.5d``."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["PATTERN", "duration_text", "parse_duration_s"]

PATTERN = r"^([0-9]+(\.[0-9]+)?\s*(d|h|min|m|s)\s*)+$"
"""What a span of time looks like, as a JSON Schema pattern."""

_SECONDS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}


def parse_duration_s(text: str) -> float:
    """Seconds of a span of time.

    Raises:
        ValueError: the text is none, or not longer than zero.
    """
    if not re.fullmatch(PATTERN, text):
        raise ValueError(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)", text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds < 1e12:
        raise ValueError(text)
    return seconds


def duration_text(seconds: float) -> str:
    """The shortest text that ``parse_duration_s`` turns into the same number of seconds."""
    if not seconds.is_integer():
        return f"{Decimal(repr(seconds)):f}s"  # repr is exact, and "f" avoids its exponent
    rest, parts = int(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _SECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
