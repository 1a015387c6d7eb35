"""YAML text -> a tree in which every value knows its line and column.

YAML 1.2 as ruamel.yaml resolves it: ``1e-5`` is a number, ``yes`` is a word. Aliases are expanded
up to a limit, so that a small file cannot become a huge tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from sweeper.errors import Problem, SpaceFileError
from sweeper.redact import masked
from sweeper.spec.values import Scalar, text

__all__ = ["Located", "parse_yaml", "read_document"]

MAX_BYTES = 200_000
MAX_NODES = 20_000
MAX_DEPTH = 32

_CORE = "tag:yaml.org,2002:"


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

    def shown(self) -> str:
        """The value as the person wrote it, shortened, and without the password of an address."""
        shown = masked(f'"{self.value}"' if self.quoted else self.written or text(self.plain()))
        return shown if len(shown) <= 80 else shown[:77] + "..."


def read_document(path: Path) -> Located:
    """The tree of a file whose root is a mapping.

    Raises:
        SpaceFileError: no such file, not UTF-8, not YAML, not a mapping, a key twice, too large.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _error(str(path), "", "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise _error(str(path), "", "is a folder", "name the space file inside it") from None
    except OSError as error:
        raise _error(str(path), "", f"cannot be read ({error.strerror})", "check its permissions") from None
    if len(content) > MAX_BYTES:
        rule = f"a space file has at most {MAX_BYTES:,} bytes"
        raise _error(str(path), f"{len(content):,} bytes", rule, "is this the space file, or the data?")
    root = parse_yaml(_decode(content, str(path)), str(path))
    if root is None:
        remedy = "begin with name, model_path and data_path"
        raise _error(f"{path}:1:1", "", "the file is empty", remedy)
    if not isinstance(root.value, dict):
        rule = "a space file is a mapping of keys to values"
        raise _error(root.where, root.shown(), rule, "begin with `name: my-sweep`")
    return root


def parse_yaml(source: str, place: str, *, positions: bool = True) -> Located | None:
    """The tree of one YAML document, None for an empty one.

    Args:
        source: the YAML text.
        place: name of the text in messages.
        positions: whether line and column are appended to the place.

    Raises:
        SpaceFileError: with all keys given twice, or the first fault of the syntax.
    """
    try:
        _check_depth(source, place, positions)
        node = YAML(typ="safe", pure=True).compose(source)
    except SpaceFileError:
        raise  # it is a ValueError, too
    except MarkedYAMLError as error:
        raise SpaceFileError([_syntax_problem(error, place, positions)]) from None
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise _error(place, "", f"is not YAML ({reason})", "save it as plain UTF-8 text") from None
    except ValueError as error:  # a directive or an escape that the parser itself trips over
        raise _error(place, "", f"is not YAML ({error})", "remove what is unusual in it") from None
    if node is None:
        return None
    builder = _Builder(place, positions)
    tree = builder.build(node, depth=0)
    if builder.problems:
        raise SpaceFileError(builder.problems)
    return tree


def _check_depth(source: str, place: str, positions: bool) -> None:
    """The composer recurses, and the scanner slows down with every level; events come one by one."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(source):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _too_deep(_where(event.start_mark, place, positions))


class _Builder:
    """Composed nodes -> located values, counting them and collecting problems."""

    def __init__(self, place: str, positions: bool) -> None:
        self.place = place
        self.positions = positions
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self, node: Any, depth: int, key_where: str = "") -> Located:
        where = self.where(node.start_mark)
        self.nodes += 1
        if depth > MAX_DEPTH:
            raise _too_deep(where)
        if self.nodes > MAX_NODES:
            rule = f"the file holds more than {MAX_NODES:,} values once its aliases are expanded"
            raise _error(where, "", rule, "write fewer options or aliases")
        if isinstance(node, MappingNode):
            value: Any = self.mapping(node, depth)
        elif isinstance(node, SequenceNode):
            value = [self.build(child, depth + 1) for child in node.value]
        else:
            value = self.scalar(node, where)
        is_scalar = isinstance(node, ScalarNode)
        return Located(
            value=value,
            where=where,
            key_where=key_where or where,
            quoted=is_scalar and node.style in ("'", '"'),
            written=str(node.value) if is_scalar else "",
        )

    def mapping(self, node: Any, depth: int) -> dict[str, Located]:
        children: dict[str, Located] = {}
        for key_node, value_node in node.value:
            where = self.where(key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                self.add(where, "", "a key is a word", "write `key: value`")
                continue
            key = str(key_node.value)
            if key in children:
                rule = f"the key stands twice, first at {children[key].key_where}"
                self.add(where, key, rule, "remove one of the two")
                continue
            children[key] = self.build(value_node, depth + 1, key_where=where)
        return children

    def scalar(self, node: Any, where: str) -> Scalar | None:
        kind = str(node.tag or "").removeprefix(_CORE)
        try:
            return _scalar(kind, str(node.value))
        except KeyError:
            self.add(where, str(node.tag), "a value has no tag of its own here", "remove the tag")
        except ValueError:
            self.add(where, str(node.value), f"is not a valid {kind}", "write it as a plain number or word")
        return None

    def add(self, where: str, value: str, rule: str, remedy: str) -> None:
        self.problems.append(Problem(where=where, value=value, rule=rule, remedy=remedy))

    def where(self, mark: Any) -> str:
        return _where(mark, self.place, self.positions)


def _scalar(kind: str, value: str) -> Scalar | None:
    """Raises KeyError for a tag that is none of YAML's core, ValueError for a wrong number."""
    if kind in ("str", "timestamp", "value", "merge"):  # 2026-01-31 may well be a sweep's name
        return value
    if kind == "null":
        return None
    if kind == "bool":
        return value.lower() in ("true", "yes", "on", "y")
    if kind == "int":
        digits = value.replace("_", "")
        if len(digits) > 18:  # more than a database or another library can hold
            raise ValueError(value)
        return int(digits) if digits.lstrip("+-").isdigit() else int(digits, 0)
    if kind == "float":
        return float(value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    raise KeyError(kind)


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        value = f"byte 0x{content[error.start]:02x}"
        raise _error(f"{place}:{line}:{column}", value, "the file is not UTF-8", "save it as UTF-8") from None


def _syntax_problem(error: MarkedYAMLError, place: str, positions: bool) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = _where(mark, place, positions)
    reason = str(error.problem or "").strip()
    if "'\\t'" in reason:
        return Problem(where=where, value="a tab", rule="YAML is indented by spaces", remedy="use spaces")
    if "undefined alias" in reason:
        return Problem(
            where=where, value=reason, rule="an alias names an anchor above it", remedy="define it with &name"
        )
    if "another document" in reason:
        return Problem(where=where, value="---", rule="a space file is one document", remedy="split the file")
    remedy = "check colons, brackets, quotes and indentation here and on the line above"
    return Problem(where=where, value="", rule=f"is not YAML ({reason})", remedy=remedy)


def _where(mark: Any, place: str, positions: bool) -> str:
    return f"{place}:{mark.line + 1}:{mark.column + 1}" if mark and positions else place


def _too_deep(where: str) -> SpaceFileError:
    return _error(where, "", f"values are nested deeper than {MAX_DEPTH}", "write fewer levels")


def _error(where: str, value: str, rule: str, remedy: str) -> SpaceFileError:
    return SpaceFileError([Problem(where=where, value=value, rule=rule, remedy=remedy)])
