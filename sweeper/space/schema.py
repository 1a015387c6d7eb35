"""The JSON Schema (draft 2020-12) of the space file, generated from the models, for editors."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import Any

from sweeper.space.config import config
from sweeper.space.config.duration import PATTERN
from sweeper.space.config.fields import Branch, Leaf, branches, leaves
from sweeper.space.file.opening import LR, RANGE_TEST

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """What a space file may hold: closed values, open forms where a field may be open, ``auto``.

    It knows single fields only; what contradicts what is found by ``load_space``.
    """
    root = _section(branches()[""])
    root["properties"]["provenance"] = {
        "type": ["object", "null"],
        "description": "Where a best-config comes from; written by a sweep.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sweeper space file",
        **root,
        "$defs": {"when": _WHEN},
    }


_WHEN = {
    "type": "object",
    "description": "Other fields and the values that they must have for this one to be searched.",
    "minProperties": 1,
    "additionalProperties": {"type": ["boolean", "number", "string"]},
}


def _section(branch: Branch) -> dict[str, Any]:
    prefix = f"{branch.path}." if branch.path else ""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name in branch.model.model_fields:
        path = prefix + name
        if path in branches():
            properties[name] = _nested_section(branches()[path])
        elif path in leaves():
            leaf = leaves()[path]
            key = leaf.key.removeprefix(prefix)
            properties[key] = _described(_field(leaf), branch, name)
            required += [key] if leaf.required else []
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    description = inspect.getdoc(branch.model)
    if branch.path and description:
        schema["description"] = description
    return {**schema, "required": required} if required else schema


def _nested_section(branch: Branch) -> dict[str, Any]:
    section = _section(branch)
    if branch.can_be_false:
        return {"anyOf": [{"const": False}, section]}
    return {**section, "type": ["object", "null"]}  # a section with all its keys commented out


def _described(schema: dict[str, Any], branch: Branch, name: str) -> dict[str, Any]:
    models = (model.__name__ for model in branch.model.__mro__)  # a field may be inherited
    text = next((docs for model in models if (docs := _field_docs().get((model, name)))), None)
    return {**schema, "description": text} if text else schema


def _field(leaf: Leaf) -> dict[str, Any]:
    closed = _closed(leaf)
    forms = [closed]
    if leaf.auto:
        forms.append({"const": "auto", "description": "Decided by a rule of thumb, or measured."})
    if leaf.searchable:
        forms += _open_forms(leaf, closed)
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _closed(leaf: Leaf) -> dict[str, Any]:
    if leaf.path == "search.time_budget_s":
        return {"type": ["string", "null"], "pattern": PATTERN, "description": "Such as 90s, 45m, 2h, 1h30m."}
    schema = leaf.adapter.json_schema()
    if leaf.path == "data_path":
        schema = _inlined(schema, schema.pop("$defs"))
    if not leaf.ruled and not leaf.required and leaf.default is not None:
        schema["default"] = leaf.default
    return schema


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its own definitions put in place, and their fields described."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _with_field_docs(definitions[name], name)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _with_field_docs(schema: dict[str, Any], model: str) -> dict[str, Any]:
    properties = {
        name: {**field, "description": _field_docs()[model, name]}
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _open_forms(leaf: Leaf, closed: dict[str, Any]) -> list[dict[str, Any]]:
    if leaf.takes_list:  # where a list is a value, an option is a text
        texts = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
        return [_form("choice", {**texts, "uniqueItems": True})]
    value = {key: part for key, part in closed.items() if key != "default"}
    options = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    forms = [options, _form("choice", options)]
    if leaf.kind in ("number", "whole"):
        bound = {"allOf": [value, {"type": "integer"}]}
        forms.append(_form("int", _pair(bound), step={"type": "integer", "minimum": 1}))
    if leaf.kind == "number":
        forms.append(_form("uniform", _pair(value)))
        log_range = _pair({"allOf": [value, {"exclusiveMinimum": 0}]})
        forms.append(_form("log_uniform", log_range))
        forms += [_range_test(log_range)] if leaf.path == LR else []
    return forms


def _pair(bound: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": bound, "minItems": 2, "maxItems": 2}


def _form(name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name],
        "properties": {name: schema, **more, "when": {"$ref": "#/$defs/when"}},
    }


def _range_test(log_range: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "The range is found, or narrowed, by a short run of rising learning rate.",
        "additionalProperties": False,
        "required": [RANGE_TEST],
        "properties": {RANGE_TEST: {"const": True}, "log_uniform": log_range},
    }


@cache
def _field_docs() -> dict[tuple[str, str], str]:
    """(model, field) -> the text written beneath the field, read from the models' source."""
    docs: dict[tuple[str, str], str] = {}
    for model in ast.parse(inspect.getsource(config)).body:
        if not isinstance(model, ast.ClassDef):
            continue
        for field, after in zip(model.body, model.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                docs[model.name, field.target.id] = inspect.cleandoc(str(after.value.value))
    return docs
