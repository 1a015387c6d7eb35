"""The fields of a space file, derived from the models of the closed configuration.

A leaf's path is that of the models (``search.time_budget_s``); its key is what stands in the
file (``search.time_budget``).
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sweeper.space.config.config import AUTO, SEARCHABLE, Config, Section, Words
from sweeper.space.config.duration import duration_text, parse_duration_s
from sweeper.space.config.values import text

__all__ = ["Branch", "Leaf", "branches", "closest", "file_key", "leaves", "nested", "short_name"]

TRIAL_SECTIONS = ("training", "deepspeed", "parallel")
"""The sections whose fields one trial may have differently from another."""

_PATTERN_WORDS = {
    r"\.jinja$": "a path that ends with .jinja",
}

_FILE_KEYS = {"search.time_budget_s": "time_budget"}


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
    def kind(self) -> Literal["number", "whole", "switch", "word", "other"]:
        """What a value of the field is, which decides what ranges it can have."""
        if self.info.annotation is float:
            return "number"
        if self.info.annotation is int:
            return "whole"
        if self.info.annotation is bool:
            return "switch"
        return "word" if get_origin(self.info.annotation) is Literal else "other"

    @property
    def annotation(self) -> Any:
        """The field's type with its bounds."""
        if not self.info.metadata:
            return self.info.annotation
        return Annotated[(self.info.annotation, *self.info.metadata)]

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation, config=ConfigDict(strict=True, allow_inf_nan=False))

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
            return int(value)  # epochs: 3, as a person writes it
        if isinstance(value, Section):
            own = {name: getattr(value, name) for name in type(value).model_fields}
            defaults = {name: info.default for name, info in type(value).model_fields.items()}
            return {name: self.written(one) for name, one in own.items() if one != defaults[name]}
        return [self.written(item) for item in value] if isinstance(value, tuple) else value

    @cached_property
    def expects(self) -> str:
        """What a value must be, in words."""
        if self.path in _FILE_KEYS:
            return "a span of time such as 90s, 45m, 2h or 1h30m"
        said = [mark.text for mark in self.info.metadata if isinstance(mark, Words)]
        return said[0] if said else _words(self.info.annotation, self.info.metadata)

    def mend(self, value: Any, quoted: bool) -> str:
        """What to do about a value that is none of the field's."""
        options = self.options
        if isinstance(value, str):
            lowered = value.strip().lower()
            if self.kind == "switch" and lowered in ("yes", "on", "no", "off"):
                return f"write {'true' if lowered in ('yes', 'on') else 'false'}"
            near = closest(lowered, [text(option) for option in options])
            if near:
                return f"write {near}"
            if quoted and self.kind in ("number", "whole"):
                return "write the number without quotes"
        if self.path in _FILE_KEYS and isinstance(value, (int, float)) and not isinstance(value, bool):
            return f"add the unit: {text(value)}s, {text(value)}m or {text(value)}h"
        if self.expects_text and isinstance(value, (int, float)) and not isinstance(value, bool):
            return f'put it in quotes: "{text(value)}"'
        return f"write {self.expects}" + (", or auto" if self.auto else "")

    @cached_property
    def takes_mapping(self) -> bool:
        """Whether a value may be a mapping, kept as it is."""
        return any(get_origin(member) is dict for member in get_args(self.info.annotation))

    @cached_property
    def takes_list(self) -> bool:
        """Whether a list is a value, and no choice."""
        return any(get_origin(member) is tuple for member in get_args(self.info.annotation))

    @property
    def expects_text(self) -> bool:
        """Whether a value is a text and never a number."""
        return self.kind == "other" and not self.expects.startswith("a number")

    @cached_property
    def options(self) -> tuple[Any, ...]:
        """The values that the field's type lists, if it lists any."""
        if self.kind == "switch":
            return (True, False)
        members = (
            get_args(self.info.annotation) if _is_union(self.info.annotation) else (self.info.annotation,)
        )
        return tuple(one for each in members if get_origin(each) is Literal for one in get_args(each))


@cache
def branches() -> Mapping[str, Branch]:
    """Every section by its path; the root is the empty path."""
    return {node.path: node for node in _walk(Config, "", False) if isinstance(node, Branch)}


@cache
def leaves() -> Mapping[str, Leaf]:
    """Every field by its path, in the order of the models."""
    return {node.path: node for node in _walk(Config, "", False) if isinstance(node, Leaf)}


def file_key(path: str) -> str:
    """The dotted path as it stands in a file."""
    if path not in _FILE_KEYS:
        return path
    return path.rpartition(".")[0] + "." + _FILE_KEYS[path]


def short_name(path: str) -> str:
    """A dimension's name: its path without the section, ``lr`` or ``lora.rank``."""
    return path.partition(".")[2] or path


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths -> a tree, in the order of the models."""
    tree: dict[str, Any] = {}
    order = {path: index for index, path in enumerate((*leaves(), "training.lora"))}
    for path in sorted(flat, key=lambda path: order.get(path, len(order))):
        *sections, last = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = flat[path]
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


def _words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    if get_origin(annotation) is Annotated:
        base, *more = get_args(annotation)
        infos = [info.metadata if isinstance(info, FieldInfo) else [info] for info in more]
        return _words(base, [mark for marks in infos for mark in marks])
    if _is_union(annotation):
        return " or ".join(_words(member) for member in get_args(annotation))
    if get_origin(annotation) is Literal:
        options = [text(option) for option in get_args(annotation)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    if _is_section(annotation):
        return "a mapping of " + ", ".join(annotation.model_fields)
    if get_origin(annotation) is tuple:
        return "a list of these" if _is_union(get_args(annotation)[0]) else "a list of texts"
    if get_origin(annotation) is dict:
        return "a mapping"
    if annotation in (int, float):
        noun = "a whole number" if annotation is int else "a number"
        limits = [_limit(mark) for mark in metadata]
        return " ".join([noun, " and ".join(limit for limit in limits if limit)]).strip()
    names = {bool: "true or false", type(None): "null", str: "a text"}
    if any(isinstance(mark, MinLen) for mark in metadata):
        return "a text that is not empty"
    patterns = [mark.pattern for mark in metadata if getattr(mark, "pattern", None)]
    if patterns:
        return _PATTERN_WORDS[patterns[0]]
    return names[annotation]


def _limit(mark: Any) -> str:
    if isinstance(mark, Ge):
        return f">= {text(mark.ge)}"
    if isinstance(mark, Gt):
        return f"> {text(mark.gt)}"
    if isinstance(mark, Le):
        return f"<= {text(mark.le)}"
    if isinstance(mark, Lt):
        return f"< {text(mark.lt)}"
    return ""
