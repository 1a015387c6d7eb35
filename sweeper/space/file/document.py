"""YAML text -> a tree in which every value knows its line and column.

YAML 1.2 as ruamel.yaml resolves it: ``1e-5`` is a number, ``yes`` is a word. Aliases are expanded
up to a limit, so that a small file cannot become a huge tree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from ruamel.yaml.nodes import ScalarNode

from sweeper.errors import Problem, SpaceFileError, first_line
from sweeper.redact import masked
from sweeper.space.config.values import Scalar, text

__all__ = ["Complain", "Located", "parse_yaml", "read_document"]

MAX_BYTES = 120_000
MAX_NODES = 10_000
MAX_DEPTH = 32

_CORE = "tag:yaml.org,2002:"


Complain = Callable[["Located", str, str], None]
"""Called with the faulty value, the rule and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """A value of the file and the place where it stands."""

    value: Scalar | dict[str, Located] | list[Located] | None
    where: str
    """``file:line:column`` of the value."""
    key_where: str = ""
    """``file:line:column`` of the key before it; the value's own place where there is none."""
    quoted: bool = False
    """A text in quotes: to be named when a number was meant."""
    written: str = ""
    """A scalar as it stands in the file, without quotes."""

    def plain(self) -> Any:
        """The value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def key(self, name: str) -> Located:
        """The key before it, as a value."""
        return Located(value=name, where=self.key_where)

    def shown(self) -> str:
        """The value as it was written, shortened, and without the password of an address."""
        shown = masked(f'"{self.value}"' if self.quoted else self.written or text(self.plain()))
        return shown if len(shown) <= 80 else shown[:77] + "..."


def read_document(path: Path) -> Located:
    """The tree of a file whose root is a mapping.

    Raises:
        SpaceFileError: no such file, not UTF-8, not YAML, not a mapping, a key twice, too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # no more: it may be a device, which never ends
    except FileNotFoundError:
        raise _error(str(path), "", "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise _error(str(path), "", "is a folder", "name the space file inside it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _error(str(path), "", f"cannot be read ({reason})", "check its path and permissions") from None
    if len(content) > MAX_BYTES:
        rule = f"a space file has at most {MAX_BYTES:,} bytes"
        raise _error(str(path), "", rule, "is this the space file, or the data?")
    root = parse_yaml(_decode(content, str(path)), str(path))
    if root is None:
        remedy = "begin with name, model_path and data_path"
        raise _error(f"{path}:1:1", "", "the file is empty", remedy)
    if not isinstance(root.value, dict):
        rule = "a space file is a mapping of keys to values"
        raise _error(root.where, root.shown(), rule, "begin with `name: my-sweep`")
    return root


def parse_yaml(source: str, place: str, *, positions: bool = True) -> Located | None:
    """The tree of one YAML document, None for an empty one. Messages name it by ``place``, followed by line
    and column where ``positions`` are wanted.

    Raises:
        SpaceFileError: with all keys given twice, or the first fault of the syntax.
    """
    builder = _Builder(place, positions)
    try:
        tree = builder.document(source)
    except SpaceFileError:
        raise  # it is a ValueError, too
    except MarkedYAMLError as error:
        where = builder.where(error.problem_mark or error.context_mark)
        raise SpaceFileError([_syntax_problem(error, where)]) from None
    except YAMLError as error:
        raise _error(place, "", f"is not YAML ({first_line(error)})", "save it as plain UTF-8 text") from None
    except Exception as error:  # a directive or an escape that the parser itself trips over
        raise _error(place, "", f"is not YAML ({error})", "remove what is unusual in it") from None
    if builder.problems:
        raise SpaceFileError(builder.problems)
    return tree


class _Builder:
    """Parsed events -> located values, counting them and collecting problems.

    From the events themselves, because ruamel's composer recurses before anybody has counted.
    """

    def __init__(self, place: str, positions: bool) -> None:
        self.place = place
        self.positions = positions
        self.problems: list[Problem] = []
        self.nodes = 0
        self.anchors: dict[str, tuple[Located, int]] = {}
        """What stands at an anchor, and how many values that are."""
        self.unfinished: dict[str, str] = {}
        """The place of each anchor around the value at hand."""

    def document(self, source: str) -> Located | None:
        yaml = YAML(typ="safe", pure=True)
        events = iter(yaml.parse(source))
        self.resolver = yaml.resolver
        tree: Located | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent) and tree is not None:
                where = self.where(event.start_mark)
                raise _error(where, "---", "a space file is one document", "split the file")
            if isinstance(event, NodeEvent):
                tree = self.build(event, events, depth=0)
        return tree

    def build(self, event: Any, events: Iterator[Any], depth: int, key_where: str = "") -> Located:
        where = self.where(event.start_mark)
        if isinstance(event, AliasEvent):
            return self.alias(event.anchor, where, key_where)
        before = self.nodes
        self.count(1, where)
        is_scalar = isinstance(event, ScalarEvent)
        if depth >= MAX_DEPTH and not is_scalar:
            rule = f"values are nested deeper than {MAX_DEPTH}"
            raise _error(where, "", rule, "write fewer levels")
        if event.anchor:
            self.unfinished[event.anchor] = where
        if is_scalar:
            value: Any = self.scalar(event, where)
        else:
            self.check_tag(event, where)
            is_mapping = isinstance(event, MappingStartEvent)
            value = self.mapping(events, depth) if is_mapping else self.sequence(events, depth)
        located = Located(
            value=value,
            where=where,
            key_where=key_where or where,
            quoted=is_scalar and event.style in ("'", '"'),
            written=event.value if is_scalar else "",
        )
        if event.anchor:
            self.unfinished.pop(event.anchor, None)
            self.anchors[event.anchor] = located, self.nodes - before
        return located

    def alias(self, name: str, where: str, key_where: str) -> Located:
        if name in self.unfinished:
            rule = f"*{name} stands inside of &{name}, and so is nested without end"
            raise _error(self.unfinished[name], f"&{name}", rule, "write out what is meant")
        if name not in self.anchors:
            raise _error(where, f"*{name}", "an alias names an anchor above it", f"define it with &{name}")
        located, nodes = self.anchors[name]
        self.count(nodes, where)
        return replace(located, key_where=key_where or located.where)

    def count(self, nodes: int, where: str) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            rule = f"the file holds more than {MAX_NODES:,} values once its aliases are expanded"
            raise _error(where, "", rule, "write fewer options or aliases")

    def sequence(self, events: Iterator[Any], depth: int) -> list[Located]:
        items = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self.build(event, events, depth + 1))
        return items

    def mapping(self, events: Iterator[Any], depth: int) -> dict[str, Located]:
        children: dict[str, Located] = {}
        while isinstance(event := next(events), NodeEvent):
            where = self.where(event.start_mark)
            key: str | None = event.value if isinstance(event, ScalarEvent) else None
            if key is None or event.anchor:
                self.build(event, events, depth + 1)
            child = self.build(next(events), events, depth + 1, key_where=where)
            if key is None:
                self.add(where, "", "a key is a word", "write `key: value`")
            elif key in children:
                rule = f"the key stands twice, first at {children[key].key_where}"
                self.add(where, key, rule, "remove one of the two")
            else:
                children[key] = child
        return children

    def scalar(self, event: Any, where: str) -> Scalar | None:
        tag, value = str(event.tag or "!"), event.value
        if tag == "!":
            tag = str(self.resolver.resolve(ScalarNode, value, event.implicit))
        kind = tag.removeprefix(_CORE)
        try:
            scalar = _scalar(kind, value)
        except KeyError:
            self.refuse_tag(tag, where)
            return None
        except ValueError:
            self.add(where, value, f"is not a valid {kind}", "write it as a plain number or word")
            return None
        if isinstance(scalar, str) and not scalar.isprintable():
            self.check_text(scalar, where)
        return scalar

    def check_text(self, value: str, where: str) -> None:
        """No name, path or address has one, and a file that is passed on should not hide any."""
        kinds = {unicodedata.category(character) for character in value}
        if "Cs" in kinds:
            self.add(where, value, "a text holds half of a surrogate pair", "mend the \\u escape")
        elif "Cc" in kinds:
            rule = "a text here is one line, without control characters"
            self.add(where, value, rule, "write it on one line, without | or >")

    def check_tag(self, event: Any, where: str) -> None:
        if event.tag and event.tag not in ("!", f"{_CORE}map", f"{_CORE}seq"):
            self.refuse_tag(event.tag, where)

    def refuse_tag(self, tag: str, where: str) -> None:
        self.add(where, tag, "a value has no tag of its own here", "remove the tag")

    def add(self, where: str, value: str, rule: str, remedy: str) -> None:
        self.problems.append(Problem(where=where, value=value, rule=rule, remedy=remedy))

    def where(self, mark: Any) -> str:
        return f"{self.place}:{mark.line + 1}:{mark.column + 1}" if mark and self.positions else self.place


def _scalar(kind: str, value: str) -> Scalar | None:
    """Raises KeyError for a tag that is none of YAML's core, ValueError for a wrong number."""
    if kind in ("str", "timestamp", "value", "merge"):  # 2026-01-31 may well be a sweep's name
        return value
    if kind == "null":
        return None
    if kind == "bool":
        return _switch(value.lower())
    if kind == "int":
        digits = value.replace("_", "")
        if len(digits) > 18:  # more than a database or another library can hold
            raise ValueError(value)
        return int(digits) if digits.lstrip("+-").isdigit() else int(digits, 0)
    if kind == "float":
        return float(value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    raise KeyError(kind)


def _switch(word: str) -> bool:
    """The words of YAML 1.2, and of 1.1 for a file that says ``%YAML 1.1``."""
    if word not in ("true", "yes", "on", "y", "false", "no", "off", "n"):
        raise ValueError(word)
    return word in ("true", "yes", "on", "y")


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        value = f"byte 0x{content[error.start]:02x}"
        raise _error(f"{place}:{line}:{column}", value, "the file is not UTF-8", "save it as UTF-8") from None


def _syntax_problem(error: MarkedYAMLError, where: str) -> Problem:
    reason = str(error.problem or "").strip()
    if "'\\t'" in reason:
        return Problem(where=where, value="a tab", rule="YAML is indented by spaces", remedy="use spaces")
    remedy = "check colons, brackets, quotes and indentation here and on the line above"
    return Problem(where=where, value="", rule=f"is not YAML ({reason})", remedy=remedy)


def _error(where: str, value: str, rule: str, remedy: str) -> SpaceFileError:
    return SpaceFileError.of(where=where, value=value, rule=rule, remedy=remedy)
