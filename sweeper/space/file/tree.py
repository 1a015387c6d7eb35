"""A space given as Python data -> the tree that a file becomes, its places named by keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import Problem, SpaceFileError
from sweeper.space.config.values import text
from sweeper.space.file.document import Located

__all__ = ["read_tree"]

_ROOT = "space"
_MOST_DEPTH = 32


def read_tree(tree: Mapping[str, Any]) -> Located:
    """Mappings, lists, tuples, paths and scalars, numpy's among them; messages name ``space['training']``.

    Raises SpaceFileError with everything that is none of these.
    """
    problems = list(_strange(tree, _ROOT, 0))
    if problems:
        raise SpaceFileError(problems)
    return _located(tree, _ROOT)


def _located(value: Any, where: str) -> Located:
    value = _plain(value)
    if isinstance(value, Mapping):
        children = {key: _located(child, f"{where}[{key!r}]") for key, child in value.items()}
        return Located(value=children, where=where, key_where=where)
    if isinstance(value, (list, tuple)):
        items = [_located(child, f"{where}[{place}]") for place, child in enumerate(value)]
        return Located(value=items, where=where, key_where=where)
    is_text = isinstance(value, str)
    return Located(
        value=value, where=where, key_where=where, quoted=is_text, written=value if is_text else text(value)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    is_numpy = type(value).__module__ == "numpy" and hasattr(value, "tolist")
    return value.tolist() if is_numpy else value


def _strange(value: Any, where: str, depth: int) -> Iterator[Problem]:
    value = _plain(value)
    if depth > _MOST_DEPTH:
        rule, remedy = f"values are nested deeper than {_MOST_DEPTH}", "write fewer levels"
        yield Problem(where=where[:80], value="", rule=rule, remedy=remedy)
    elif isinstance(value, Mapping):
        for key, child in value.items():
            if not isinstance(key, str):
                rule, remedy = "a key of a space is a text", "write the name of a field"
                yield Problem(where=where, value=repr(key), rule=rule, remedy=remedy)
            yield from _strange(child, f"{where}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for place, child in enumerate(value):
            yield from _strange(child, f"{where}[{place}]", depth + 1)
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        rule = "is nothing that a space file could hold"
        remedy = "write a number, a text, true or false, a list or a mapping of these"
        yield Problem(where=where, value=type(value).__name__, rule=rule, remedy=remedy)
