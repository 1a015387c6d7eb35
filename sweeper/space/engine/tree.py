"""A trainer's file as a tree whose keys may be dotted."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["at", "flattened", "with_value"]


def at(tree: Mapping[str, Any], key: str) -> Any:
    """What stands at a key, as it is or through its sections; None where nothing does."""
    if key in tree:
        return tree[key]
    first, _, rest = key.partition(".")
    section = tree.get(first)
    return at(section, rest) if rest and isinstance(section, Mapping) else None


def with_value(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with one value put in: where the key stands, else within the sections that it names."""
    copied = copy.deepcopy(dict(tree))
    place, rest = copied, key
    while rest not in place and "." in rest:
        first, _, rest = rest.partition(".")
        if not isinstance(place.get(first), dict):
            place[first] = {}
        place = place[first]
    place[rest] = value
    return copied


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
