"""What the sweep says about its own ranges: which ones grew, and where the best lies at an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.search import Edge, TrialRecord, edges, space_in_force
from sweeper.space import as_tree, describe, value_text

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = ["edge_lines", "edge_trees", "extended_ranges", "range_lines"]


def range_lines(space: Space, trials: Sequence[TrialRecord]) -> list[str]:
    """A sentence for each range that grew, and for each end at which the best trial lies; none mostly."""
    asked = space_in_force(space, trials)
    grown = [
        f"{now.name} was extended from {describe(begun.open_value)} to {describe(now.open_value)}"
        for begun, now in zip(space.dimensions, asked.dimensions, strict=True)
        if begun.open_value != now.open_value
    ]
    return [*grown, *edge_lines(space, trials)]


def edge_lines(space: Space, trials: Sequence[TrialRecord]) -> list[str]:
    """A sentence for each end at which the best trial lies."""
    asked = space_in_force(space, trials)
    by_itself = "" if space.settings.search.extension else ", or search.extend: true"
    return [
        f"the best {one.name}, {value_text(one.value)}, lies at the {one.side} end of what was searched "
        f"({describe(one.searched)}), and a better one may lie beyond: write {one.name}: "
        f"{value_text(_written(space, one))}{by_itself}"
        for one in edges(asked, trials)
    ]


def edge_trees(space: Space, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The same ends as JSON: ``{"name", "value", "side", "searched", "write"}``, the last two as in a space
    file."""
    return [
        {
            "name": one.name,
            "value": one.value,
            "side": one.side,
            "searched": as_tree(one.searched),
            "write": _written(space, one),
        }
        for one in edges(space_in_force(space, trials), trials)
    ]


def extended_ranges(space: Space, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """Dimension name -> open value as in a space file, of those that grew while the sweep ran."""
    pairs = zip(space.dimensions, space_in_force(space, trials).dimensions, strict=True)
    return {now.name: as_tree(now.open_value) for begun, now in pairs if begun.open_value != now.open_value}


def _written(space: Space, edge: Edge) -> Any:
    """As it would stand in the file."""
    tree, dimension = as_tree(edge.wider), space.dimension(edge.name)
    when = dict(dimension.when) if dimension else {}
    if not when:
        return tree
    return {**(tree if isinstance(tree, dict) else {"choice": tree}), "when": when}
