"""Columns of rows by other names: as the data source says, or common pairs that are recognised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sweeper.data.read.read import Row

__all__ = ["implied_columns", "with_columns"]

_PAIRS = (
    ("query", "response"),
    ("question", "response"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("problem", "solution"),
    ("question", "solution"),
    ("input", "output"),
    ("prompt", "output"),
    ("question", "output"),
    ("query", "answer"),
    ("prompt", "answer"),
    ("problem", "answer"),
    ("input", "response"),
    ("input", "target"),
    ("instruction", "completion"),
    ("question", "completion"),
)
"""What is asked and what is answered, as data sets of the hub call it; the first that fits is meant."""
_LISTS = ("conversation", "dialog", "dialogue", "chat")
"""Names of a list of messages."""
_WITH_IT = {"system_prompt": "system", "context": "input"}
"""Columns that stand beside a pair."""


def with_columns(row: Row, renamings: Iterable[Mapping[str, str]]) -> Row:
    """The row with its columns named as the formats know them. A column that takes the name of another
    stands in its place; one that the row has not is missing there, and told as such."""
    for columns in renamings:
        row = replace(row, fields=_renamed(row.fields, columns))
    return row


def implied_columns(row: Row) -> list[dict[str, str]]:
    """The ways in which a row that fits no format can be read: none, or several where it is not clear."""
    names = row.fields.keys()
    lists = [{name: "conversations"} for name in _LISTS if isinstance(row.fields.get(name), list)]
    if lists:
        return lists
    found: dict[str, dict[str, str]] = {}
    for asked, answered in _PAIRS:
        if asked in names and answered in names and asked not in found:
            found[asked] = _meant(asked, answered) | {
                name: field for name, field in _WITH_IT.items() if name in names and field not in names
            }
    return list(found.values())


def _meant(asked: str, answered: str) -> dict[str, str]:
    """An instruction may have an input beside it, as in Dolly's rows."""
    if asked == "instruction":
        return {asked: "instruction", answered: "output"}
    return {asked: "prompt", answered: "completion"}


def _renamed(fields: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, object]:
    taken = set(columns.values())
    kept = {name: value for name, value in fields.items() if name not in columns and name not in taken}
    return kept | {field: fields[name] for name, field in columns.items() if name in fields}
