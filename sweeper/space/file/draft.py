"""The file's tree, walked along the models: what is closed, open, ``auto``, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweeper.errors import Problem
from sweeper.space.config.fields import Branch, Leaf, branches, closest, file_key, leaves
from sweeper.space.config.values import text
from sweeper.space.file.document import Located
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


_SUGGESTIONS = 100
"""After so many problems no more keys are looked for that were meant: more than that are not printed."""


@dataclass(kw_only=True)
class Draft:
    """What a file says, field by field, before any rule of thumb is applied."""

    source: str
    """Name of the file in messages."""
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

    def where(self, path: str) -> str:
        """Where a field's value stands, or the nearest section around it."""
        while path and path not in self.places:
            path = path.rpartition(".")[0]
        return self.places.get(path, f"{self.source}:1:1")


def draft_of(root: Located, source: str) -> Draft:
    """Walks the whole tree, collecting every problem."""
    draft = Draft(source=source)
    _Walk(draft).section(root, branches()[""])
    return draft


class _Walk:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    def section(self, node: Located, branch: Branch) -> None:
        draft = self.draft
        draft.places[branch.path] = node.where
        draft.shown[branch.path] = node.shown()
        if node.value is False and branch.can_be_false:
            draft.closed[branch.path] = False
            return
        if branch.can_be_false:
            draft.has_lora = True
        children = {} if node.value is None and not branch.can_be_false else node.value
        if not isinstance(children, dict):
            self._not_a_section(node, branch)
            return
        known = _known_keys(branch)
        for key, child in children.items():
            self.child(key, child, branch, known)
        self.missing(node, branch, set(children))

    def child(self, key: str, node: Located, branch: Branch, known: dict[str, str]) -> None:
        if key == "provenance" and branch.path == "":
            self.provenance(node)
        elif key not in known:
            self.unknown_key(key, node, branch, known)
        elif known[key] in branches():
            self.section(node, branches()[known[key]])
        else:
            self.leaf(node, leaves()[known[key]])

    def leaf(self, node: Located, leaf: Leaf) -> None:
        draft = self.draft
        draft.places[leaf.path], draft.shown[leaf.path] = node.where, node.shown()
        if node.value == "auto" and leaf.auto:
            draft.autos.add(leaf.path)
        elif leaf.searchable and isinstance(node.value, dict) and RANGE_TEST in node.value:
            self.range_test(node, leaf)
        elif leaf.searchable and looks_open(node) and not (leaf.takes_list and isinstance(node.value, list)):
            opening = read_opening(leaf, node, draft.complain)
            if opening:
                draft.opened[leaf.path] = opening
        elif leaf.path == "data_path":
            self.sources(node, leaf)
        elif isinstance(node.value, dict) and (looks_open(node) or not leaf.takes_mapping):
            self._mapping_for_value(node, leaf)
        else:
            self.value(node, leaf)

    def range_test(self, node: Located, leaf: Leaf) -> None:
        draft = self.draft
        draft.range_test = read_range_test(leaf, node, draft.complain)
        if draft.range_test is None:
            return
        if draft.range_test.within is None:
            draft.autos.add(leaf.path)
        else:
            draft.opened[leaf.path] = Opening(open_value=draft.range_test.within)

    def sources(self, node: Located, leaf: Leaf) -> None:
        if isinstance(node.value, dict) and looks_open(node):
            self._not_searchable(node, leaf)
            return
        sources = read_sources(node, leaf, self.draft.complain)
        if sources is not None:
            self.draft.closed[leaf.path] = sources

    def value(self, node: Located, leaf: Leaf) -> None:
        try:
            self.draft.closed[leaf.path] = leaf.validate(node.plain())
        except ValueError:
            if isinstance(node.value, list) and leaf.kind != "other":
                self._not_searchable(node, leaf)
            elif node.value == "auto":
                remedy = f"write {leaf.expects}, or leave it out for {_default_text(leaf)}"
                self.draft.complain(node, f"{leaf.key} is never decided by a rule", remedy)
            elif leaf.path == "name" and isinstance(node.value, str) and _has_separator(node.value):
                rule = "a sweep's name is the name of a folder, so it has no path separators"
                remedy = "write the folder as checkpoint_path, and a plain name here"
                self.draft.complain(node, rule, remedy)
            else:
                rule = f"{leaf.key} must be {leaf.expects}"
                self.draft.complain(node, rule, leaf.mend(node.value, node.quoted))

    def provenance(self, node: Located) -> None:
        value = node.plain()
        if value is not None and not isinstance(value, dict):
            self.draft.complain(node, "provenance is a mapping that a sweep wrote", "remove it")
            return
        self.draft.provenance = value

    def unknown_key(self, key: str, node: Located, branch: Branch, known: dict[str, str]) -> None:
        section = f"a key of {branch.path}" if branch.path else "a key of a space file"
        many = len(self.draft.problems) > _SUGGESTIONS
        remedy = "remove it" if many else _nearest_key(key, branch, known)
        if key == "<<":
            remedy = "write the keys out: YAML 1.2 has no merge keys"
        place = Located(value=key, where=node.key_where)
        self.draft.complain(place, f"is not {section}", remedy)

    def missing(self, node: Located, branch: Branch, present: set[str]) -> None:
        for key, path in _known_keys(branch).items():
            if path in leaves() and leaves()[path].required and key not in present:
                problem = Problem(
                    where=node.where, value=key, rule="the key is missing", remedy=f"add `{key}: ...`"
                )
                self.draft.problems.append(problem)

    def _mapping_for_value(self, node: Located, leaf: Leaf) -> None:
        if looks_open(node):
            self._not_searchable(node, leaf)
            return
        remedy = f"write {leaf.expects}"
        if leaf.searchable:
            remedy += ", or an open value such as [a, b] or {uniform: [lo, hi]}"
        self.draft.complain(node, f"{leaf.key} holds one value", remedy)

    def _not_searchable(self, node: Located, leaf: Leaf) -> None:
        remedy = f"write one value ({leaf.expects})"
        self.draft.complain(node, f"{leaf.key} is the same for every trial and cannot be open", remedy)

    def _not_a_section(self, node: Located, branch: Branch) -> None:
        if branch.can_be_false:
            rule = f"{branch.path} is false or a mapping"
            self.draft.complain(node, rule, "write false, or {rank: 16, alpha: 32}")
            return
        keys = ", ".join(list(_known_keys(branch))[:3])
        self.draft.complain(node, f"{branch.path} is a section", f"write its keys beneath it: {keys}, ...")


def _known_keys(branch: Branch) -> dict[str, str]:
    """Key in the file -> path, for the fields and sections directly beneath a branch."""
    prefix = f"{branch.path}." if branch.path else ""
    paths = [
        path
        for path in (*leaves(), *branches())
        if path.startswith(prefix) and "." not in path.removeprefix(prefix) and path != branch.path
    ]
    return {file_key(path).removeprefix(prefix): path for path in paths if path}


def _nearest_key(key: str, branch: Branch, known: dict[str, str]) -> str:
    elsewhere = {path.rpartition(".")[2]: file_key(path) for path in leaves() if "." in path}
    if key in elsewhere:
        near = closest(key, known)
        return f"move it to {elsewhere[key]}" + (f", or did you mean {near}?" if near else "")
    if branch.path and key in {path for path in leaves() if "." not in path}:
        return "move it to the top of the file, outside any section"
    near = closest(key, known)
    if near:
        return f"did you mean {near}?"
    near = closest(key, elsewhere)
    if near:
        return f"did you mean {elsewhere[near]}?"
    return f"remove it, or use one of: {', '.join(known)}"


def _has_separator(name: str) -> bool:
    return "/" in name or "\\" in name


def _default_text(leaf: Leaf) -> str:
    return "its default" if leaf.default is None else f"its default, {text(leaf.default)}"
