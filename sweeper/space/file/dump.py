"""Values -> the YAML text of a space file."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from functools import cache
from operator import attrgetter
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarfloat import ScalarFloat

from sweeper.space.config.config import Config
from sweeper.space.config.fields import TRIAL_SECTIONS, leaves, nested
from sweeper.space.engine.section import THE_ENGINES, VALUES, Engine

__all__ = ["dump_config", "file_tree", "written_for_engine"]


_SECTIONS = (
    "training",
    "deepspeed",
    "parallel",
    "objective",
    "evaluation",
    "search",
    "resources",
    "tracking",
)
"""What is searched first, then how."""


_LINES: dict[tuple[str, str, int], str | None] = {}
_MOST_LINES, _LONG = 4096, 100
"""So many are remembered; what is longer is broken, which depends on how far it is indented."""


def dump_config(config: Config | dict[str, Any]) -> str:
    """YAML text of a configuration with nothing open, or of a plain tree as it is.

    Numbers are written so that YAML 1.1 readers, too, take them for numbers (``1.0e-05``).
    """
    tree = _config_tree(config) if isinstance(config, Config) else config
    entries = [_entry(key, value) for key, value in tree.items()]
    if any(one is None for one in entries):
        return _dumped(_styled(tree))
    return "".join(one or "" for one in entries)


def _entry(key: str, value: Any) -> str | None:
    """What a section or a key is written as; None where that depends on what it stands in. Most of what the
    trials of a sweep say is what another has said: each line is made once."""
    if not isinstance(value, Mapping) or not value:
        return _line(key, value, 1)
    lines = [_line(inner, child, 2) for inner, child in value.items()]
    if any(one is None for one in lines):
        return None
    return _head(key) + "".join(textwrap.indent(one or "", "  ") for one in lines)


@cache
def _head(key: str) -> str:
    return _dumped(CommentedMap({key: CommentedMap({"in": 0})})).partition("\n")[0] + "\n"


def _line(key: str, value: Any, depth: int) -> str | None:
    told = key, repr(value), depth
    if told in _LINES:
        return _LINES.get(told)
    text = _dumped(CommentedMap({key: _styled(value, depth)}))
    is_plain = r"\n" not in repr(value) and all(len(line) < _LONG for line in text.splitlines())
    if len(_LINES) >= _MOST_LINES:
        _LINES.clear()
    line = _LINES[told] = text if is_plain else None
    return line


def _dumped(tree: Any) -> str:
    writer = YAML()
    writer.width = 110
    writer.representer.add_representer(float, _represent_float)
    text = io.StringIO()
    writer.dump(tree, text)
    return text.getvalue()


def file_tree(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> written value, as the tree of a space file; what is None is left out."""
    written: dict[str, Any] = {}
    for path, leaf in leaves().items():
        if path == "training.lora.rank" and flat.get("training.lora") is False:
            written["training.lora"] = False
        if flat.get(path) is not None:
            written[leaf.key] = flat[path]
    tree = nested(written)
    sections = [name for name in _SECTIONS if name in tree]
    return {key: tree[key] for key in [*(key for key in tree if key not in sections), *sections]}


def written_for_engine(written: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    """Path -> written value of what another trainer is told, and of what is no field of a trial; its own keys
    in its section."""
    told = {
        path: value
        for path, value in written.items()
        if not path.startswith((*TRIAL_SECTIONS, VALUES)) or (engine.acts(path) and value != "auto")
    }
    told = {path: value for path, value in told.items() if value != THE_ENGINES}
    opened = {path.removeprefix(VALUES): value for path, value in written.items() if path.startswith(VALUES)}
    section = dict(told["engine"])
    if opened:
        section["values"] = {**section.get("values", {}), **opened}
    return {**told, "engine": section}


def _config_tree(config: Config) -> dict[str, Any]:
    lora = config.training.lora
    flat: dict[str, Any] = {} if lora else {"training.lora": False}
    for path, leaf in leaves().items():
        if lora or not path.startswith("training.lora."):
            flat[path] = leaf.written(attrgetter(path)(config))
    if config.engine is not None:
        flat = written_for_engine(flat, config.engine)
    tree = file_tree(flat)
    return {**tree, "provenance": config.provenance} if config.provenance is not None else tree


def _styled(value: Any, depth: int = 0) -> Any:
    """Sections in block style; lists and what is below two levels on one line."""
    if isinstance(value, Mapping):
        mapping = CommentedMap((key, _styled(child, depth + 1)) for key, child in value.items())
        if depth >= 2 and not any(isinstance(child, Mapping) for child in value.values()):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, (list, tuple)):
        sequence = CommentedSeq(_styled(child, depth + 1) for child in value)
        sequence.fa.set_flow_style()
        return sequence
    return float(value) if isinstance(value, ScalarFloat) else value


def _represent_float(representer: Any, value: float) -> Any:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    text = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)
    return representer.represent_scalar("tag:yaml.org,2002:float", text)
