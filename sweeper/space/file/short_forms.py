"""Short forms of sections, written out before anything looks at the tree."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from sweeper.space.config.search import Cost
from sweeper.space.file.document import Located

__all__ = ["written_out"]

_OBJECTIVES = ("metric", "also")


def written_out(root: Located) -> Located:
    """``objective: [a, b]`` as ``{metric: a, also: b}``; a list that is no such pair stays as it is."""
    children = root.value
    if not isinstance(children, dict) or "objective" not in children:
        return root
    node = children["objective"]
    if not isinstance(node.value, list) or not 1 <= len(node.value) <= len(_OBJECTIVES):
        return root
    if node.value[0].value in get_args(Cost):
        return root
    section: dict[str, Located] = dict(zip(_OBJECTIVES, node.value, strict=False))
    return replace(root, value={**children, "objective": replace(node, value=section)})
