"""Reading ``data_path``: a text, a mapping of ``path``, ``weight`` and ``format``, or a list of these."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sweeper.space.config.config import DataSource
from sweeper.space.config.fields import Leaf, closest
from sweeper.space.file.document import Complain, Located

__all__ = ["read_sources"]


def read_sources(node: Located, leaf: Leaf, complain: Complain) -> Any:
    """The value of ``data_path``; None after a complaint, one for each fault of each item."""
    if not isinstance(node.value, list):
        return _source(node, leaf, complain)
    if not node.value:
        complain(node, "data_path names at least one source", f"write {leaf.expects}")
        return None
    sources = [_source(item, leaf, complain) for item in node.value]
    return None if None in sources else tuple(sources)


def _source(node: Located, leaf: Leaf, complain: Complain) -> str | DataSource | None:
    if isinstance(node.value, dict):
        return _mapping(node, node.value, complain)
    if isinstance(node.value, str) and node.value:
        return node.value
    complain(node, "a source of data_path is a path or a mapping", leaf.mend(node.value, node.quoted))
    return None


def _mapping(node: Located, children: dict[str, Located], complain: Complain) -> DataSource | None:
    values: dict[str, Any] = {}
    for key, child in children.items():
        if key not in _leaves():
            near = closest(key, _leaves())
            remedy = f"did you mean {near}?" if near else f"keep {', '.join(_leaves())}"
            complain(child.key(key), "is not a key of a data source", remedy)
            continue
        leaf = _leaves()[key]
        try:
            values[key] = leaf.validate(child.plain())
        except ValueError:
            complain(child, f"{key} must be {leaf.expects}", leaf.mend(child.value, child.quoted))
    if "path" not in children:
        complain(node, "a data source has a path", "add `path: ...`")
    return DataSource(**values) if values.keys() == children.keys() and "path" in values else None


@cache
def _leaves() -> Mapping[str, Leaf]:
    return {name: Leaf(path=f"data_path.{name}", info=info) for name, info in DataSource.model_fields.items()}
