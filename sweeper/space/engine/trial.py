"""One trial's own file and command: the closed values under the trainer's names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.space.engine.presets import key_of
from sweeper.space.engine.section import Engine, is_assignment
from sweeper.space.engine.tree import flattened, with_value

if TYPE_CHECKING:
    from sweeper.space.config.config import Config

__all__ = ["command_of", "flags_of", "placed", "trainer_tree"]


def trainer_tree(engine: Engine, config: Config) -> dict[str, Any]:
    """The content of the trainer's file for one trial, with its placeholders."""
    tree = dict(engine.content)
    for path in engine.names:
        if path.startswith("training.lora.") and not config.training.lora:
            continue
        key = key_of(engine, path)
        tree = with_value(tree, key.theirs, _plain(key.write(attrgetter(path)(config))))
    for theirs, value in engine.values.items():
        tree = with_value(tree, theirs, value)
    return tree


def placed(value: Any, places: Mapping[str, str]) -> Any:
    """With ``{out}`` and the like replaced, in texts at any depth; other braces are the trainer's own."""
    if isinstance(value, Mapping):
        return {key: placed(one, places) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [placed(one, places) for one in value]
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), value)
    return value


def flags_of(tree: Mapping[str, Any]) -> list[str]:
    """``--key value`` for each key; a switch that is on is the key alone, one that is off or null is nothing,
    a list is its members."""
    words: list[str] = []
    for key, value in flattened(tree):
        if value is None or value is False:
            continue
        words.append(f"--{key}")
        if isinstance(value, (list, tuple)):
            words += [_word(one) for one in value]
        elif value is not True:
            words.append(_word(value))
    return words


def command_of(
    engine: Engine, tree: Mapping[str, Any], file: Path, places: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The words of the command, and the variables that stand before it."""
    words: list[str] = []
    variables: dict[str, str] = {}
    for word in engine.words:
        said = placed(word, {**places, "config": str(file)})
        if not words and is_assignment(word):
            name, _, value = said.partition("=")
            variables[name] = value
        elif word == "{flags}":
            words += flags_of(tree)
        else:
            words.append(said.replace("{{", "{").replace("}}", "}"))
    return words, variables


def _plain(value: Any) -> Any:
    """3 for 3.0, which a trainer's options for whole numbers would refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
