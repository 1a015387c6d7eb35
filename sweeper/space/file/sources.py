"""Reading ``data_path``: a text, a mapping of ``path``, ``weight`` and ``format``, or a list of these."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sweeper.space.config.config import DataSource
from sweeper.space.config.fields import Leaf, closest
from sweeper.space.config.values import nearest
from sweeper.space.file.document import Complain, Located
from sweeper.space.file.opening import Opening, looks_open, read_opening

__all__ = ["read_sources"]


def read_sources(node: Located, leaf: Leaf, complain: Complain) -> tuple[Any, dict[int, Opening]]:
    """The value of ``data_path``, None after a complaint, one for each fault of each item; and the weights
    that are open, by the places of their sources, which have a usual one in the value."""
    if not isinstance(node.value, list):
        return _source(node, leaf, complain, {}, None), {}
    if not node.value:
        complain(node, "data_path names at least one source", f"write {leaf.expects}")
        return None, {}
    opened: dict[int, Opening] = {}
    place = len(node.value) > 1
    sources = [
        _source(item, leaf, complain, opened, index if place else None)
        for index, item in enumerate(node.value)
    ]
    return (None, {}) if None in sources else (tuple(sources), opened)


def _source(
    node: Located, leaf: Leaf, complain: Complain, opened: dict[int, Opening], index: int | None
) -> str | DataSource | None:
    if isinstance(node.value, dict):
        return _mapping(node, node.value, complain, opened, index)
    if isinstance(node.value, str) and node.value:
        return node.value
    complain(node, "a source of data_path is a path or a mapping", leaf.mend(node.value, node.quoted))
    return None


def _mapping(
    node: Located,
    children: dict[str, Located],
    complain: Complain,
    opened: dict[int, Opening],
    index: int | None,
) -> DataSource | None:
    """``index``: the place among several sources, whose weight may be open."""
    values: dict[str, Any] = {}
    for key, child in children.items():
        if key not in _leaves():
            near = closest(key, _leaves())
            remedy = f"did you mean {near}?" if near else f"keep {', '.join(_leaves())}"
            complain(child.key(key), "is not a key of a data source", remedy)
            continue
        leaf = _leaves()[key]
        if key == "weight" and index is None and looks_open(child):
            rule = "the weight of a single source says no more than epochs does"
            complain(child, rule, "write training.epochs as an open value, and one weight here")
            continue
        if key == "weight" and index is not None and looks_open(child):
            opening = _open_weight(leaf, child, complain)
            if opening is not None:
                opened[index], values[key] = opening, float(nearest(opening.open_value, 1.0))
            continue
        try:
            values[key] = leaf.validate(child.plain())
        except ValueError:
            complain(child, f"{key} must be {leaf.expects}", leaf.mend(child.value, child.quoted))
    if "path" not in children:
        complain(node, "a data source has a path", "add `path: ...`")
    return DataSource(**values) if values.keys() == children.keys() and "path" in values else None


def _open_weight(leaf: Leaf, node: Located, complain: Complain) -> Opening | None:
    faults: list[Located] = []

    def told(where: Located, rule: str, remedy: str) -> None:
        faults.append(where)
        complain(where, rule, remedy)

    opening = read_opening(leaf, node, told)
    if opening is not None and opening.when:
        told(node, "an open weight has no conditions: every trial mixes its rows", "take when out")
    return None if faults else opening


@cache
def _leaves() -> Mapping[str, Leaf]:
    return {name: Leaf(path=f"data_path.{name}", info=info) for name, info in DataSource.model_fields.items()}
