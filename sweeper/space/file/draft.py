"""The file's tree, walked along the models: what is closed, open, ``auto``, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sweeper.errors import Problem
from sweeper.space.config.fields import Branch, Leaf, branches, closest, file_key, leaves, short_name
from sweeper.space.config.mixture import weight_path
from sweeper.space.config.values import text
from sweeper.space.file.constraints import read_constraints
from sweeper.space.file.document import Located
from sweeper.space.file.engine_section import read_engine
from sweeper.space.file.opening import (
    RANGE_TEST,
    Opening,
    RangeTest,
    looks_open,
    read_opening,
    read_range_test,
)
from sweeper.space.file.sources import read_sources

__all__ = ["Draft", "draft_of"]


_OF_THE_ENGINE = ("model_path", "data_path")
"""With another trainer these are its own to know."""
_SUGGESTIONS = 100
"""After so many problems no more keys are looked for that were meant: more than that are not printed."""


@dataclass(kw_only=True)
class Draft:
    """What a file says, field by field, before any rule of thumb is applied."""

    closed: dict[str, Any] = field(default_factory=dict)
    """Path -> validated value; defaults of the models are not in it. ``training.lora`` is False or absent."""
    opened: dict[str, Opening] = field(default_factory=dict)
    autos: set[str] = field(default_factory=set)
    """Paths written ``auto``."""
    range_test: RangeTest | None = None
    """Of the lr, which is then among ``autos`` or ``opened`` as well."""
    places: dict[str, str] = field(default_factory=dict)
    """Path -> where its value stands."""
    shown: dict[str, str] = field(default_factory=dict)
    """Path -> the value as written."""
    has_lora: bool = False
    provenance: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)

    def complain(self, node: Located, rule: str, remedy: str) -> None:
        """Adds a problem with a value."""
        self.problems.append(Problem(where=node.where, value=node.shown(), rule=rule, remedy=remedy))

    def complain_of(self, path: str, rule: str, remedy: str) -> None:
        """Adds a problem with a field, whether it is written or not."""
        value = f"{short_name(path)}: {self.shown.get(path, '')}"
        self.problems.append(Problem(where=self.where(path), value=value, rule=rule, remedy=remedy))

    def where(self, path: str) -> str:
        """Where a field's value stands, or the nearest section around it."""
        while path and path not in self.places:
            path = path.rpartition(".")[0]
        return self.places[path]


def draft_of(root: Located) -> Draft:
    """Walks the whole tree, collecting every problem."""
    draft = Draft()
    _read_section(draft, root, branches()[""])
    return draft


def _read_section(draft: Draft, node: Located, branch: Branch) -> None:
    draft.places[branch.path], draft.shown[branch.path] = node.where, node.shown()
    if node.value is False and branch.can_be_false:
        draft.closed[branch.path] = False
        return
    if branch.can_be_false:
        draft.has_lora = True
    known = _known_keys(branch)
    children = {} if node.value is None and not branch.can_be_false else node.value
    if not isinstance(children, dict):
        if branch.can_be_false:
            rule, remedy = f"{branch.path} is false or a mapping", "write false, or {rank: 16, alpha: 32}"
        elif branch.path == "objective" and isinstance(children, list):
            rule = "a sweep has one objective or two, and the first is a metric"
            remedy = "write [eval/loss], or two of them such as [eval/loss, gpu_seconds]"
        else:
            rule = f"{branch.path} is a section"
            remedy = f"write its keys beneath it: {', '.join(list(known)[:3])}, ..."
        draft.complain(node, rule, remedy)
        return
    for key, child in children.items():
        if key == "provenance" and branch.path == "":
            _read_provenance(draft, child)
        elif key not in known:
            _refuse_key(draft, key, child, branch)
        elif known[key] in branches():
            _read_section(draft, child, branches()[known[key]])
        else:
            _read_field(draft, child, leaves()[known[key]])
    for key, path in known.items():
        is_known = key in children or (key in _OF_THE_ENGINE and "engine" in children)
        if path in leaves() and leaves()[path].required and not is_known:
            draft.complain(Located(value=key, where=node.where), "the key is missing", f"add `{key}: ...`")


def _read_field(draft: Draft, node: Located, leaf: Leaf) -> None:
    draft.places[leaf.path], draft.shown[leaf.path] = node.where, node.shown()
    is_mapping, is_list = isinstance(node.value, dict), isinstance(node.value, list)
    if node.value == "auto" and leaf.auto:
        draft.autos.add(leaf.path)
    elif leaf.path == "engine" and node.value is not None:
        _read_engine(draft, node)
    elif leaf.searchable and looks_open(node) and not (is_list and leaf.takes(tuple)):
        _read_open(draft, node, leaf)
    elif is_mapping and looks_open(node):
        _refuse_open(draft, node, leaf)
    elif leaf.path == "objective.constraints":
        constraints = read_constraints(node, leaf, draft.complain)
        if constraints is not None:
            draft.closed[leaf.path] = constraints
    elif leaf.path == "data_path":
        _read_sources(draft, node, leaf)
    elif is_mapping and not leaf.takes(dict):
        remedy = f"write {leaf.expects}"
        remedy += ", or an open value such as [a, b] or {uniform: [lo, hi]}" if leaf.searchable else ""
        draft.complain(node, f"{leaf.key} holds one value", remedy)
    else:
        _read_value(draft, node, leaf)


def _read_sources(draft: Draft, node: Located, leaf: Leaf) -> None:
    sources, weights = read_sources(node, leaf, draft.complain)
    if sources is None:
        return
    draft.closed[leaf.path] = sources
    for index, opening in weights.items():
        draft.opened[weight_path(index)] = opening
        draft.places[weight_path(index)] = node.value[index].value["weight"].where  # type: ignore[index,union-attr,call-overload]


def _read_engine(draft: Draft, node: Located) -> None:
    found = read_engine(node, draft.complain)
    draft.opened |= found.opened
    draft.places |= found.places
    draft.shown |= found.shown
    if found.engine is not None:
        draft.closed["engine"] = found.engine


def _read_open(draft: Draft, node: Located, leaf: Leaf) -> None:
    before = len(draft.problems)
    test: RangeTest | None = None
    if isinstance(node.value, dict) and RANGE_TEST in node.value:
        test = read_range_test(leaf, node, draft.complain)
        opening = Opening(open_value=test.within) if test and test.within else None
    else:
        opening = read_opening(leaf, node, draft.complain)
    if len(draft.problems) > before:
        return
    draft.range_test = test or draft.range_test
    if opening:
        draft.opened[leaf.path] = opening
    else:
        draft.autos.add(leaf.path)


def _read_value(draft: Draft, node: Located, leaf: Leaf) -> None:
    try:
        draft.closed[leaf.path] = leaf.validate(node.plain())
    except ValueError:
        if isinstance(node.value, list) and leaf.kind != "other":
            _refuse_open(draft, node, leaf)
        elif node.value == "auto":
            default = "its default" if leaf.default is None else f"its default, {text(leaf.default)}"
            remedy = f"write {leaf.expects}, or leave it out for {default}"
            draft.complain(node, f"{leaf.key} is never decided by a rule", remedy)
        elif leaf.path == "name" and isinstance(node.value, str) and {"/", "\\"} & set(node.value):
            rule = "a sweep's name is the name of a folder, so it has no path separators"
            draft.complain(node, rule, "write the folder as checkpoint_path, and a plain name here")
        else:
            rule = f"{leaf.key} must be {leaf.expects}"
            draft.complain(node, rule, leaf.mend(node.value, node.quoted))


def _read_provenance(draft: Draft, node: Located) -> None:
    value = node.plain()
    if value is not None and not isinstance(value, dict):
        draft.complain(node, "provenance is a mapping that a sweep wrote", "remove it")
        return
    draft.provenance = value


def _refuse_open(draft: Draft, node: Located, leaf: Leaf) -> None:
    remedy = f"write one value ({leaf.expects})"
    draft.complain(node, f"{leaf.key} is the same for every trial and cannot be open", remedy)


def _refuse_key(draft: Draft, key: str, node: Located, branch: Branch) -> None:
    section = f"a key of {branch.path}" if branch.path else "a key of a space file"
    if key == "<<":
        remedy = "write the keys out: YAML 1.2 has no merge keys"
    else:
        many = len(draft.problems) > _SUGGESTIONS
        remedy = "remove it" if many else _nearest_key(key, branch)
    draft.complain(node.key(key), f"is not {section}", remedy)


@cache
def _known_keys(branch: Branch) -> Mapping[str, str]:
    """Key in the file -> path, for the fields and then the sections directly beneath a branch."""
    prefix = f"{branch.path}." if branch.path else ""
    paths = [prefix + name for name in branch.model.model_fields]
    ordered = [path for known in (leaves(), branches()) for path in paths if path in known]
    return {file_key(path).removeprefix(prefix): path for path in ordered}


def _nearest_key(key: str, branch: Branch) -> str:
    known = _known_keys(branch)
    elsewhere = {path.rpartition(".")[2]: file_key(path) for path in leaves() if "." in path}
    near = closest(key, known)
    if branch.path and "." not in key and key in leaves():
        return "move it to the top of the file, outside any section"
    if key in elsewhere:
        return f"move it to {elsewhere[key]}" + (f", or did you mean {near}?" if near else "")
    if near:
        return f"did you mean {near}?"
    near = closest(key, elsewhere)
    return f"did you mean {elsewhere[near]}?" if near else f"remove it, or use one of: {', '.join(known)}"
