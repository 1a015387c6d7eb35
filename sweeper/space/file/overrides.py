"""``--set key=value``: values from the command line put over those of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweeper.errors import Problem, SpaceFileError
from sweeper.redact import masked
from sweeper.space.config.fields import branches, closest, file_key, leaves, short_name
from sweeper.space.file.document import Located, parse_yaml

__all__ = ["apply_overrides"]


def apply_overrides(root: Located, overrides: Sequence[str]) -> tuple[Located, list[Problem]]:
    """The tree with every override in place, and what is wrong with the others."""
    problems: list[Problem] = []
    for override in overrides:
        place = f"--set {masked(override)}"
        try:
            root = _overridden(root, override, place)
        except SpaceFileError as error:
            problems.extend(error.problems)
    return root, problems


def _overridden(root: Located, override: str, place: str) -> Located:
    key, equals, source = override.partition("=")
    if not equals:
        rule, remedy = "an override is key=value", "write --set training.lr=1e-4"
        raise SpaceFileError.of(where=place, value="", rule=rule, remedy=remedy)
    path = _path_of(key.strip(), place)
    value = parse_yaml(source, place, positions=False) or Located(value=None, where=place)
    return _put(root, path.split("."), value, place)


def _path_of(key: str, place: str) -> str:
    """The dotted path in the file that a key names: in full, or short where that is unambiguous."""
    full = [*map(file_key, leaves()), "training.lora"]
    matches = [path for path in full if key in (short_name(path), path.rpartition(".")[2])]
    if key in full or key.startswith("engine."):
        return key
    if len(matches) == 1:
        return matches[0]
    if matches:
        rule, remedy = "the short name fits more than one field", f"write one of: {', '.join(matches)}"
    elif key in branches():
        rule, remedy = "is a section, not a field", f"set its fields one by one, as {key}.NAME=VALUE"
    else:
        short = {short_name(path): path for path in full}
        near = closest(key, [*full, *short])
        rule = "is not a field of a space file"
        remedy = f"did you mean {short.get(near, near)}?" if near else "see `sweeper schema` for the fields"
    raise SpaceFileError.of(where=place, value=key, rule=rule, remedy=remedy)


def _put(node: Located, keys: list[str], value: Located, place: str) -> Located:
    """A copy of a mapping with one value replaced, sections made on the way."""
    first, *rest = keys
    children = dict(node.value) if isinstance(node.value, dict) else {}
    if rest:
        section = children.get(first) or Located(value={}, where=place, key_where=place)
        children[first] = _put(section, rest, value, place)
    else:
        children[first] = replace(value, where=place, key_where=place)
    return Located(value=children, where=node.where, key_where=node.key_where)
