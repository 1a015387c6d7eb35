"""Keys of another trainer -> the text of a space file: a pure function."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sweeper.errors import Problem, UserError
from sweeper.recommend.exports import Consumer, Found, Note
from sweeper.recommend.exports.writing import commented
from sweeper.space import dump_config, value_text
from sweeper.space.config.fields import leaves
from sweeper.space.file.dump import file_tree

__all__ = ["Imported", "imported", "sweep_name"]

_MODEL, _DATA = "the-model", "data.jsonl"
_LORA = "training.lora"
_DP = "parallel.dp"


class Imported(NamedTuple):
    """A space file, and what it does not say."""

    text: str
    notes: tuple[str, ...]
    values: dict[str, Any]
    """Path -> value; a list where a sweep file leaves it open."""


def imported(
    tree: Mapping[str, Any],
    consumer: Consumer,
    *,
    name: str,
    where: str,
    sweep: Mapping[str, Any] | None = None,
) -> Imported:
    """A space file of what another trainer's file says.

    Args:
        tree: its keys and values.
        name: of the sweep, made fit to be one.
        where: the file, for messages.
        sweep: Axolotl's sweep file, whose lists become open values.

    Raises UserError with every value that is none of its field's, all at once.
    """
    found = _read(tree, consumer)
    problems = list(_problems(found.values, consumer, where))
    opened: dict[str, list[Any]] = {}
    for key, options in _swept(sweep or {}):
        ways = [_read({**tree, key: one}, consumer) for one in options]
        problems += [one for way in ways for one in _problems(way.values, consumer, f"{where}, sweep")]
        opened |= _opened(key, ways, found)
        found.tree.pop(key, None)
    if problems:
        raise UserError(dict.fromkeys(problems))
    values = _validated(found.values) | {
        path: [_valid(path, one) for one in of] for path, of in opened.items()
    }
    notes = [f"{note.path}: {note.said}" for note in found.notes]
    notes += [f"{one}: {value_text(value)} has no meaning here" for one, value in found.tree.items()]
    notes += [
        "the pairs of the sweep file are searched in all combinations"
        for pairs in [(sweep or {}).get("_")]
        if pairs
    ]
    values = {"name": sweep_name(name), **values}
    for path, placeholder in (("model_path", _MODEL), ("data_path", _DATA)):
        if path not in values:
            values[path] = placeholder
            notes.append(f"{path}: is to be filled in, {where} does not say it")
    if _DP not in values and "training.global_batch_size" not in values:
        notes.append(
            f"{_DP}: the number of GPUs is not in {where}; on several write it, or the batch is smaller"
        )
    head = [f"from {where}, {consumer.title} {consumer.version}"]
    if not opened and isinstance(lr := values.get("training.lr"), float):
        head.append(f"to search: lr: {{log_uniform: [{lr / 10:.1e}, {lr * 10:.1e}]}}")
    return Imported(commented([*head, *notes]) + dump_config(_file(values)), tuple(notes), values)


def _read(tree: Mapping[str, Any], consumer: Consumer) -> Found:
    found = Found(copy.deepcopy(dict(tree)))
    for key in consumer.keys:
        value = _taken(found.tree, key.theirs, nested=consumer.form == "json")
        if value is None or value == "auto":
            continue
        try:
            found.values[key.ours] = key.read(_number(key.ours, value))
        except ValueError:
            found.values[key.ours] = value  # named with the others
    assert consumer.read is not None, consumer.name
    consumer.read(found)
    return found


def _taken(tree: dict[str, Any], key: str, *, nested: bool) -> Any:
    if not nested:
        return tree.pop(key, None)
    *sections, last = key.split(".")
    for section in sections:
        below = tree.get(section)
        if not isinstance(below, dict):
            return None
        tree = below
    return tree.pop(last, None)


def _number(path: str, value: Any) -> Any:
    """What YAML 1.1 readers take for a text, ``"2e-5"``, and trainers for a number."""
    if isinstance(value, str) and leaves()[path].kind in ("number", "whole"):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _swept(sweep: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Each key of a sweep file with its options; pairs (``_``) key by key."""
    pairs = sweep.get("_")
    for key, options in sweep.items():
        if key != "_":
            yield key, options if isinstance(options, list) else [options]
    given = [one for one in pairs if isinstance(one, dict)] if isinstance(pairs, list) else []
    for key in dict.fromkeys(key for one in given for key in one):
        yield key, [one[key] for one in given if key in one]


def _opened(key: str, ways: list[Found], found: Found) -> dict[str, list[Any]]:
    """The fields that a swept key changes, each with its options."""
    opened = {}
    for path in dict.fromkeys(path for way in ways for path in way.values):
        options = [way.values[path] for way in ways if path in way.values]
        distinct = [one for number, one in enumerate(options) if one not in options[:number]]
        if len(distinct) < 2 and distinct == [found.values.get(path)]:
            continue
        if path in leaves() and leaves()[path].searchable and len(distinct) > 1:
            opened[path] = distinct
        else:
            found.values[path] = distinct[0]
            if len(distinct) > 1:
                found.notes.append(Note(path, f"{key} cannot be searched; the first option is taken"))
    if not opened:
        found.notes.append(
            Note(key, f"options {value_text(tuple(map(str, (w.tree for w in ways))))} are not read")
        )
    return opened


def _problems(values: Mapping[str, Any], consumer: Consumer, where: str) -> Iterator[Problem]:
    names = {key.ours: key.theirs for key in consumer.keys}
    for path, value in values.items():
        if path == _LORA:
            continue
        leaf = leaves()[path]
        try:
            leaf.validate(value)
        except ValueError:
            shown = value if isinstance(value, str) else value_text(value)
            remedy = leaf.mend(value, isinstance(value, str))
            yield Problem(
                where=f"{where}: {names.get(path, path)}",
                value=str(shown),
                rule=f"is not {leaf.expects}",
                remedy=remedy,
            )


def _validated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {path: _valid(path, value) for path, value in values.items()}


def _valid(path: str, value: Any) -> Any:
    return value if path == _LORA else leaves()[path].validate(value)


def _file(values: Mapping[str, Any]) -> dict[str, Any]:
    written = {
        path: value
        if path == _LORA
        else [leaves()[path].written(one) for one in value]
        if isinstance(value, list)
        else leaves()[path].written(value)
        for path, value in values.items()
    }
    return file_tree(written)


def sweep_name(wanted: str) -> str:
    """The nearest that may be the name of a sweep."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._") or "imported"
