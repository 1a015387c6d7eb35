"""A file of another trainer -> its keys and values, and whose it is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sweeper.errors import UserError
from sweeper.recommend.exports import CONSUMERS, Consumer

__all__ = ["IMPORT_FORMATS", "consumer_of", "read_tree"]

IMPORT_FORMATS = tuple(name for name, one in CONSUMERS.items() if one.read is not None)

_MAX_BYTES = 1_000_000
_SIGNS = {
    "deepspeed": {"train_batch_size", "train_micro_batch_size_per_gpu", "zero_optimization"},
    "axolotl": {"base_model", "micro_batch_size", "sequence_len"},
    "llamafactory": {"stage", "finetuning_type", "cutoff_len", "dataset_dir"},
    "trl": {"dataset_name", "datasets", "use_peft", "per_device_train_batch_size", "max_length"},
    "openrlhf": {"adam.lr", "train.batch_size", "data.dataset", "model.model_name_or_path"},
}
"""Keys by which a file is recognised; in this order, since the last two share some with others."""
_PROGRAM = "train_sft"


def read_tree(path: Path, fmt: str | None = None) -> dict[str, Any]:
    """What the file says, read as the trainer ``fmt`` reads its own, whatever the file is called. Without it:
    JSON or YAML by the file's suffix, else a command line or a script that holds one.

    Raises UserError where it cannot be read as that.
    """
    text, form = _text(path), _form_of(path, fmt)
    try:
        if form == "command":
            return _options(text)
        tree = json.loads(text) if form == "json" else YAML(typ="safe").load(text)
        if not isinstance(tree, dict):
            raise ValueError("is not a mapping of keys to values")
        return {str(key): value for key, value in tree.items()}
    except (ValueError, YAMLError, RecursionError) as error:
        shown = "a command line" if form == "command" else form
        of = "" if fmt is None else f", as {CONSUMERS[fmt].title} has it"
        raise _unreadable(path, f"cannot be read as {shown}{of}: {' '.join(str(error).split())}") from error


def _form_of(path: Path, fmt: str | None) -> str:
    if fmt is not None:
        return CONSUMERS[fmt].form
    return {".json": "json", ".yaml": "yaml", ".yml": "yaml"}.get(path.suffix.lower(), "command")


def consumer_of(tree: dict[str, Any], fmt: str | None, path: Path) -> Consumer:
    """Whose file it is; by ``fmt`` where that is said. Raises UserError."""
    if fmt is not None:
        return CONSUMERS[fmt]
    for name, signs in _SIGNS.items():
        if signs & tree.keys():
            return CONSUMERS[name]
    raise _unreadable(path, "is the file of no trainer that is known here")


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise OSError(f"it has more than {_MAX_BYTES:,} bytes")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(path, f"cannot be read: {reason}") from error


def _unreadable(path: Path, rule: str) -> UserError:
    formats = ", ".join(IMPORT_FORMATS)
    remedy = f"give a file of one of {formats}; --format says which, where it is not recognised"
    return UserError.of(where=str(path), value="", rule=rule, remedy=remedy)


def _options(text: str) -> dict[str, Any]:
    """The options behind ``train_sft`` in a command line or a shell script."""
    joined = re.sub(r"\\\r?\n", " ", text)
    line = next((one for one in joined.splitlines() if _PROGRAM in one.partition("#")[0]), None)
    if line is None:
        raise ValueError(f"it calls no {_PROGRAM} of OpenRLHF")
    words = shlex.split(line, comments=True)
    start = next(number for number, word in enumerate(words) if _PROGRAM in word)
    found: dict[str, list[Any]] = {}
    name = ""
    for word in words[start + 1 :]:
        if word in ("&&", "||", ";", "|", "&", ">", ">>", "2>&1"):
            break
        if word == "$@":
            continue
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = [_scalar(value)] if equals else []
        elif name:
            found[name].append(_scalar(word))
        else:
            raise ValueError(f"{word} belongs to no option")
    return {key: _one(values) for key, values in found.items()}


def _one(values: list[Any]) -> Any:
    return True if not values else values[0] if len(values) == 1 else values


def _scalar(word: str) -> Any:
    if re.fullmatch(r"[+-]?\d+", word):
        return int(word)
    try:
        return float(word)
    except ValueError:
        return {"true": True, "false": False}.get(word.lower(), word)
