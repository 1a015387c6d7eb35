"""``when``: which fields an open value depends on, and in what order the dimensions come."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sweeper.space.config.fields import TRIAL_SECTIONS, Leaf, closest, leaf_of, leaves, short_name
from sweeper.space.config.values import Scalar, describe, is_inside, text
from sweeper.space.engine.section import VALUES
from sweeper.space.file.document import Located
from sweeper.space.file.draft import Draft

__all__ = ["read_conditions", "sorted_by_dependency"]

Conditions = dict[str, tuple[tuple[str, Scalar], ...]]
"""Path of an open field -> pairs of a path and the value that it must have."""


def read_conditions(draft: Draft, closed: Mapping[str, Any]) -> Conditions:
    """The conditions of every open field, problems going to the draft; ``closed`` are the fields that are the
    same for all trials."""
    conditions: Conditions = {}
    for path, opening in draft.opened.items():
        pairs = [_condition(draft, closed, path, key, node) for key, node in opening.when.items()]
        conditions[path] = tuple(pair for pair in pairs if pair is not None)
    while (circular := _in_a_circle(conditions)) is not None:
        node = next(iter(draft.opened[circular].when.values()))
        rule = "conditions depend on each other in a circle"
        draft.complain(node.key(short_name(circular)), rule, "remove one of them")
        conditions[circular] = ()
    return conditions


def sorted_by_dependency(conditions: Conditions) -> list[str]:
    """The open fields in the order of the models, each after those that its conditions name."""
    order: dict[str, None] = {}

    def place(path: str) -> None:
        for parent, _ in conditions[path]:
            if parent in conditions and parent not in order:
                place(parent)
        order[path] = None

    for path in (*leaves(), *conditions):  # what only another trainer knows comes last
        if path in conditions and path not in order:
            place(path)
    return list(order)


def _condition(
    draft: Draft, closed: Mapping[str, Any], path: str, key: str, node: Located
) -> tuple[str, Scalar] | None:
    name, leaf = node.key(key), _leaf(draft, key)
    if leaf is None:
        near = closest(key, map(short_name, _trial_paths()))
        remedy = f"did you mean {near}?" if near else "name a field of training, deepspeed or parallel"
        draft.complain(name, "a condition names another field of a trial", remedy)
    elif leaf.path == path:
        draft.complain(name, "a field cannot be its own condition", "name another field")
    elif (value := _value(draft, leaf, node)) is None:
        pass
    elif leaf.path in draft.opened:
        open_value = draft.opened[leaf.path].open_value
        if is_inside(open_value, value):
            return leaf.path, value
        rule = f"the condition can never hold: {short_name(leaf.path)} is {describe(open_value)}"
        draft.complain(node, rule, "name a value that it can have")
    elif leaf.path not in closed:
        rule = f"{short_name(leaf.path)} is not given in the file, or follows from other values"
        draft.complain(name, rule, "write it as a value or an open value, or remove the condition")
    elif closed[leaf.path] == value:
        return leaf.path, value
    else:
        rule = f"the condition can never hold: {short_name(leaf.path)} is {text(closed[leaf.path])}"
        draft.complain(node, rule, "remove the open value, or open the field that it depends on")
    return None


def _trial_paths() -> list[str]:
    return [path for path in leaves() if path.startswith(TRIAL_SECTIONS)]


def _leaf(draft: Draft, key: str) -> Leaf | None:
    if f"{VALUES}{key}" in draft.opened:
        return leaf_of(f"{VALUES}{key}")
    return next((leaves()[path] for path in _trial_paths() if key in (path, short_name(path))), None)


def _value(draft: Draft, leaf: Leaf, node: Located) -> Scalar | None:
    try:
        if isinstance(node.value, (dict, list)) or node.value is None:
            raise ValueError(node.value)
        value: Scalar = leaf.validate(node.value)
    except ValueError:
        rule = f"a condition on {short_name(leaf.path)} compares it with {leaf.expects}"
        draft.complain(node, rule, leaf.mend(node.value, node.quoted))
        return None
    return value


def _in_a_circle(conditions: Conditions) -> str | None:
    """An open field of a circle of conditions, if there is one."""
    try:
        TopologicalSorter({path: dict(pairs) for path, pairs in conditions.items()}).prepare()
    except CycleError as error:
        first: str = error.args[1][0]
        return first
    return None
