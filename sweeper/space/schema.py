"""The JSON Schema (draft 2020-12) of the space file, generated from the models, for editors."""

from __future__ import annotations

import inspect
from typing import Any

from sweeper.space.config.closing import ALPHA, ALPHA_RATIO
from sweeper.space.config.config import DataSource
from sweeper.space.config.duration import PATTERN
from sweeper.space.config.fields import Branch, Leaf, branches, leaf_of, leaves
from sweeper.space.config.mixture import weight_path
from sweeper.space.config.search import Extend
from sweeper.space.engine.presets import PRESETS
from sweeper.space.engine.section import Engine, EngineMetrics, EngineResume
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
        "$defs": {
            "when": _WHEN,
            "DataSource": _data_source(),
            "Extend": Extend.model_json_schema(),
            "EngineMetrics": EngineMetrics.model_json_schema(),
            "EngineResume": EngineResume.model_json_schema(),
        },
    }


def _data_source() -> dict[str, Any]:
    """With a weight that may be open."""
    schema = DataSource.model_json_schema()
    weight, leaf = schema["properties"]["weight"], leaf_of(weight_path(0))
    closed = {key: weight[key] for key in ("type", "minimum", "maximum")}
    forms = {"anyOf": [closed, *_open_forms(leaf, closed)]}
    schema["properties"]["weight"] = {**forms, "description": weight["description"]}
    return schema


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
            properties[key] = _field(leaf)
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
    section = {**section, "type": ["object", "null"]}  # a section with all its keys commented out
    if branch.path == "objective":
        forms = [section["properties"][name] for name in ("metric", "also")]
        return {"anyOf": [section, {"type": "array", "prefixItems": forms, "minItems": 1, "maxItems": 2}]}
    return section


def _field(leaf: Leaf) -> dict[str, Any]:
    closed = _closed(leaf)
    forms = [closed]
    if leaf.auto:
        forms.append({"const": "auto", "description": "Decided by a rule of thumb, or measured."})
    if leaf.searchable:
        forms += _open_forms(leaf, closed)
    if leaf.path == ALPHA:
        forms.append(
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["ratio"],
                "properties": {"ratio": _field(leaves()[ALPHA_RATIO])},
            }
        )
    schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {**schema, "description": leaf.info.description} if leaf.info.description else schema


def _closed(leaf: Leaf) -> dict[str, Any]:
    if leaf.path == "search.time_budget_s":
        return {"type": ["string", "null"], "pattern": PATTERN, "description": "Such as 90s, 45m, 2h, 1h30m."}
    if leaf.path == "engine":
        return _engine()
    schema = leaf.adapter.json_schema()
    schema.pop("$defs", None)  # at the root, where its references look for it
    if not leaf.ruled and not leaf.required and leaf.default is not None:
        schema["default"] = leaf.default
    return schema


def _engine() -> dict[str, Any]:
    """As it is written: a trainer's name stands for command and metrics, and its values may be open."""
    schema = Engine.model_json_schema()
    schema.pop("$defs")  # at the root
    schema.pop("required")
    any_keys = {
        "type": ["object", "null"],
        "description": "Keys that only the trainer knows.",
    }
    presets = dict.fromkeys(PRESETS, any_keys)
    properties = {**schema["properties"], **presets}
    return {"anyOf": [{**schema, "properties": properties}, {"type": "null"}]}


def _open_forms(leaf: Leaf, closed: dict[str, Any]) -> list[dict[str, Any]]:
    if leaf.takes(tuple):  # where a list is a value, an option is a text
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
