"""The fields of a space file, derived from the models of the closed configuration.

A leaf's path is that of the models (``search.time_budget_s``); its key is what stands in the
file (``search.time_budget``).
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sweeper.space.config.config import Config, DataSource
from sweeper.space.config.duration import duration_text, parse_duration_s
from sweeper.space.config.section import AUTO, SEARCHABLE, Section, Words
from sweeper.space.config.values import is_number, text
from sweeper.space.engine.section import VALUES

__all__ = ["Branch", "Leaf", "branches", "closest", "file_key", "leaf_of", "leaves", "nested", "short_name"]

TRIAL_SECTIONS = ("training", "deepspeed", "parallel")
"""The sections whose fields one trial may have differently from another."""

_PATTERN_WORDS = {r"\.jinja$": "a path that ends with .jinja"}
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "string": "a text",
    "array": "a list of texts",
    "object": "a mapping",
}
"""What the types of JSON Schema are called in messages."""

Kind = Literal["number", "whole", "switch", "word", "other"]
_KINDS: dict[Any, Kind] = {float: "number", int: "whole", bool: "switch"}

_FILE_KEYS = {"search.time_budget_s": "search.time_budget"}


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A section of the file, such as ``training`` or ``training.lora``."""

    path: str
    model: type[Section]
    can_be_false: bool
    """Whether ``false`` stands for the section's absence, as in ``lora: false``."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One field that holds a value."""

    path: str
    info: FieldInfo

    @cached_property
    def searchable(self) -> bool:
        return SEARCHABLE in self.info.metadata

    @cached_property
    def auto(self) -> bool:
        return AUTO in self.info.metadata

    @cached_property
    def ruled(self) -> bool:
        """Whether a rule of thumb closes the field when it is absent."""
        return self.auto and self.info.is_required()

    @property
    def required(self) -> bool:
        return self.info.is_required() and not self.auto

    @property
    def key(self) -> str:
        return file_key(self.path)

    @property
    def default(self) -> Any:
        return None if self.info.default is PydanticUndefined else self.info.default

    @cached_property
    def kind(self) -> Kind:
        """What a value of the field is, which decides what ranges it can have."""
        if get_origin(self.info.annotation) is Literal:
            return "word"
        kind: Any = self.info.annotation
        if self.searchable and type(None) in get_args(kind):  # a value, or null
            kind = next(get_args(one)[0] for one in get_args(kind) if get_origin(one) is Annotated)
        return _KINDS.get(kind, "other")

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Of the field's type with its bounds."""
        bounds, kind = self.info.metadata, self.info.annotation
        bounded: Any = Annotated[(kind, *bounds)] if bounds else kind
        return TypeAdapter(bounded, config=ConfigDict(strict=True, allow_inf_nan=False))

    def validate(self, value: Any) -> Any:
        """The value in the field's own type: a whole number becomes a float where that is meant.

        Raises:
            ValueError: it is none of the field's values.
        """
        if self.path in _FILE_KEYS:
            return parse_duration_s(value if isinstance(value, str) else "")
        if isinstance(value, bool) and self.kind in ("word", "whole", "number"):
            raise ValueError(value)  # a Literal[0, 1] would take true for 1
        try:
            return self.adapter.validate_python(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            raise ValueError(value) from error

    def written(self, value: Any) -> Any:
        """A closed value as it stands in the file."""
        if self.path in _FILE_KEYS and value is not None:
            return duration_text(float(value))
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            return int(value)  # epochs: 3, as a user writes it
        if isinstance(value, Section):
            own = value.model_dump(exclude_defaults=True)
            return {name: self.written(one) for name, one in own.items()}
        return [self.written(item) for item in value] if isinstance(value, tuple) else value

    @cached_property
    def expects(self) -> str:
        """What a value must be, in words."""
        if self.path in _FILE_KEYS:
            return "a span of time such as 90s, 45m, 2h or 1h30m"
        said = [mark.text for mark in self.info.metadata if isinstance(mark, Words)]
        return said[0] if said else _words(self.adapter.json_schema())

    def mend(self, value: Any, quoted: bool) -> str:
        """What to do about a value that is none of the field's."""
        if isinstance(value, str):
            lowered = value.strip().lower()
            if self.kind == "switch" and lowered in ("yes", "on", "no", "off"):
                return f"write {'true' if lowered in ('yes', 'on') else 'false'}"
            near = closest(lowered, map(text, self.options))
            if near:
                return f"write {near}"
            if quoted and self.kind in ("number", "whole"):
                return "write the number without quotes"
        if self.path in _FILE_KEYS and is_number(value):
            return f"add the unit: {text(value)}s, {text(value)}m or {text(value)}h"
        takes_number = self.expects.startswith(("a number", "a whole number"))
        takes_number = takes_number or bool in get_args(self.info.annotation)
        expects_text = self.kind == "other" and not takes_number
        if expects_text and is_number(value):
            return f'put it in quotes: "{text(value)}"'
        return f"write {self.expects}" + (", or auto" if self.auto else "")

    def takes(self, kind: type) -> bool:
        """Whether a value may be a ``dict``, kept as it is or a section, or a ``tuple``: a list that is no
        choice."""
        members = get_args(self.info.annotation)
        return any(get_origin(one) is kind or (kind is dict and _is_section(one)) for one in members)

    @cached_property
    def options(self) -> tuple[Any, ...]:
        """The values that the field's type lists, if it lists any."""
        if self.kind == "switch":
            return (True, False)
        schema = self.adapter.json_schema()
        return tuple(one for part in schema.get("anyOf", [schema]) for one in part.get("enum", ()))


@dataclass(frozen=True, kw_only=True)
class _TrainersLeaf(Leaf):
    """A key that only another trainer knows (``engine.values``): any number, text or switch."""

    info: FieldInfo = field(default_factory=lambda: FieldInfo(annotation=object))

    @property
    def searchable(self) -> bool:
        return True

    @property
    def kind(self) -> Kind:
        """It may have a range."""
        return "number"

    @property
    def expects(self) -> str:
        return "a number, a text, or true or false"

    def validate(self, value: Any) -> Any:
        if not isinstance(value, (bool, int, float, str)):
            raise ValueError(value)
        return value

    def written(self, value: Any) -> Any:
        return value


@cache
def branches() -> Mapping[str, Branch]:
    """Every section by its path; the root is the empty path."""
    return {node.path: node for node in _walk(Config, "", False) if isinstance(node, Branch)}


@cache
def leaves() -> Mapping[str, Leaf]:
    """Every field by its path, in the order of the models."""
    return {node.path: node for node in _walk(Config, "", False) if isinstance(node, Leaf)}


def leaf_of(path: str) -> Leaf:
    """The field that a dimension is of: one of the models', the weight of a data source, or a key that only
    another trainer knows."""
    if path.startswith(VALUES):
        return _TrainersLeaf(path=path)
    return _weight(path) if path.startswith("data_path.") else leaves()[path]


@cache
def _weight(path: str) -> Leaf:
    return Leaf(path=path, info=DataSource.model_fields["weight"])


def file_key(path: str) -> str:
    """The dotted path as it stands in a file."""
    return _FILE_KEYS.get(path, path)


def short_name(path: str) -> str:
    """A dimension's name: its path without the section, ``lr`` or ``lora.rank``."""
    return path.removeprefix(VALUES) if path.startswith(VALUES) else path.partition(".")[2] or path


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths -> a tree."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, last = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def _walk(model: type[Section], prefix: str, can_be_false: bool) -> Iterator[Branch | Leaf]:
    yield Branch(path=prefix, model=model, can_be_false=can_be_false)
    for name, info in model.model_fields.items():
        if (prefix, name) == ("", "provenance"):
            continue  # kept as it is: a record, not a setting
        path = f"{prefix}.{name}" if prefix else name
        members = get_args(info.annotation) if _is_union(info.annotation) else (info.annotation,)
        others = [member for member in members if not _is_section(member)]
        if others in ([], [Literal[False]]):
            yield from _walk(members[0], path, can_be_false=bool(others))
        else:
            yield Leaf(path=path, info=info)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _words(schema: Mapping[str, Any]) -> str:
    """What a JSON Schema asks for."""
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema:
        return f"one of {', '.join(map(text, schema['enum']))}"
    if "pattern" in schema:
        return _PATTERN_WORDS[schema["pattern"]]
    noun = "a text that is not empty" if "minLength" in schema else _NOUNS[schema["type"]]
    limits = " and ".join(f"{sign} {text(schema[key])}" for key, sign in _LIMITS.items() if key in schema)
    return f"{noun} {limits}".strip()
