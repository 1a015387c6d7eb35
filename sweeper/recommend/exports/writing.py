"""Their keys and values -> the text of a file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.recommend.exports.consumer import Consumer, Note
from sweeper.space import dump_config

__all__ = ["commented", "text_of"]


def text_of(consumer: Consumer, keys: Mapping[str, Any], head: Sequence[str], notes: Sequence[Note]) -> str:
    """The file as its trainer reads it; what it does not say is in comments at its top, but for JSON, which
    has none."""
    if consumer.form == "json":
        return json.dumps(keys, indent=2) + "\n"
    said = commented([*head, *(f"{note.path}: {note.said}" for note in notes)])
    if consumer.form == "yaml":
        return said + dump_config(dict(keys))
    return said + _command(consumer.command, keys)


def commented(lines: Sequence[str]) -> str:
    """One comment a line, whatever a line holds."""
    return "".join(f"# {' '.join(one.split())}\n" for one in lines)


def _command(words: str, keys: Mapping[str, Any]) -> str:
    options = [words]
    for key, value in keys.items():
        if value is False and _is_flag(words):
            continue
        shown = [] if value is True and _is_flag(words) else value if isinstance(value, list) else [value]
        options.append(" ".join([f"--{key}", *(shlex.quote(_shown(one)) for one in shown)]))
    return " \\\n    ".join(options) + "\n"


def _is_flag(words: str) -> bool:
    """Whether a switch there is an option without a value: argparse's, not transformers'."""
    return "openrlhf" in words


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
