"""A DeepSpeed configuration of the user's own: read once, and held against what the space file says.

What sweeper decides is stated in the space file. The same key in the user's configuration is accepted
where it agrees, or is ``auto`` as Hugging Face's Trainer writes it; every other key is passed on.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.errors import Problem
from sweeper.space.checks import GROUPS
from sweeper.space.config.fields import leaves, short_name
from sweeper.space.config.values import describe, text
from sweeper.space.space import Space

__all__ = ["DS_CONFIG", "ds_config_problems", "read_ds_file"]

DS_CONFIG = "deepspeed.config"
MAX_BYTES = 20_000
"""It travels inside every best-config."""
MAX_DEPTH = 16
MAX_DIGITS = 18

_OFFLOAD, _PRECISION, _SCHEDULER = "deepspeed.offload", "deepspeed.precision", "training.scheduler"
_SAME_SCHEDULES = {"constant": "WarmupLR", "linear": "WarmupDecayLR", "cosine": "WarmupCosineLR"}
_REFUSED = {
    "optimizer": (
        "sweeper trains with AdamW and takes its settings from the space file",
        "remove it; set training.lr, weight_decay, adam_beta1, adam_beta2 and adam_epsilon there",
    ),
    "scheduler": (
        "sweeper has its own schedules and takes their settings from the space file",
        "remove it; set training.scheduler, warmup_ratio or warmup_steps, and final_lr_ratio there",
    ),
}


class _Decided(NamedTuple):
    """A key of DeepSpeed's whose value follows from the space file, or never changes."""

    key: str
    """Dotted."""
    path: str | None
    """The field that it follows from; None for what is always the same."""
    rule: Callable[[Mapping[str, Any]], Any] | None = None
    """Path -> value of every field, to the value of the key; None where that is the field's own."""

    def value(self, flat: Mapping[str, Any]) -> Any:
        return self.rule(flat) if self.rule else flat[self.path or ""]


def _always(key: str, value: Any) -> _Decided:
    return _Decided(key, None, lambda flat: value)


def _device(*moved: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda flat: "cpu" if flat[_OFFLOAD] in moved else "none"


def _enabled(precision: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda flat: flat[_PRECISION] == precision


def _betas(flat: Mapping[str, Any]) -> list[float]:
    return [flat["training.adam_beta1"], flat["training.adam_beta2"]]


_DECIDED = (
    _Decided("train_batch_size", "training.global_batch_size"),
    _Decided("train_micro_batch_size_per_gpu", "training.per_device_batch_size"),
    _Decided("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
    _Decided("gradient_clipping", "training.max_grad_norm"),
    _Decided("zero_optimization.stage", "deepspeed.zero_stage"),
    _Decided("zero_optimization.offload_optimizer.device", _OFFLOAD, _device("optimizer", "all")),
    _Decided("zero_optimization.offload_param.device", _OFFLOAD, _device("all")),
    _always("zero_optimization.stage3_gather_16bit_weights_on_model_save", True),
    _always("zero_allow_untested_optimizer", True),
    _always("zero_force_ds_cpu_optimizer", False),
    _Decided("bf16.enabled", _PRECISION, _enabled("bf16")),
    _Decided("bfloat16.enabled", _PRECISION, _enabled("bf16")),
    _Decided("fp16.enabled", _PRECISION, _enabled("fp16")),
    _always("amp.enabled", False),
    _Decided("tensor_parallel.autotp_size", "parallel.tp"),
    _always("optimizer.type", "AdamW"),
    _Decided("optimizer.params.lr", "training.lr"),
    _Decided("optimizer.params.weight_decay", "training.weight_decay"),
    _Decided("optimizer.params.eps", "training.adam_epsilon"),
    _Decided("optimizer.params.betas", "training.adam_beta1", _betas),
    _always("optimizer.params.adam_w_mode", True),
    _Decided("scheduler.type", _SCHEDULER, lambda flat: _SAME_SCHEDULES.get(flat[_SCHEDULER])),
)


def read_ds_file(name: str, where: str) -> tuple[dict[str, Any] | None, Problem | None]:
    """The content of a DeepSpeed JSON file, or what is wrong with it; ``where`` the space file names it."""
    try:
        path = Path(name).expanduser()
        if path.exists() and not path.is_file():  # a device may never end, a pipe never begin
            raise OSError(f"{name} is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home of nobody known
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else "cannot be read"
        return None, Problem(where=where, value=name, rule=reason, remedy="check the path")
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"a DeepSpeed configuration has at most {MAX_BYTES:,} bytes")
        return _parsed(content), None
    except json.JSONDecodeError as error:
        place, reason = f"{name}:{error.lineno}:{error.colno}", f"is not JSON ({error.msg})"
        return None, Problem(where=place, value="", rule=reason, remedy="mend it here or just before")
    except (ValueError, RecursionError) as error:
        rule = "is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        return None, Problem(where=name, value="", rule=rule, remedy="is this a DeepSpeed configuration?")


def ds_config_problems(space: Space) -> list[Problem]:
    """Every key of the user's DeepSpeed configuration that says other than the space file."""
    content = space.closed.get(DS_CONFIG)
    if not isinstance(content, dict):
        return []
    problems = [*_no_sections(space, content), *_refused_keys(space, content)]
    waiting = [one for one in _DECIDED if _is_said(_at(content, one.key))]
    for group in {_together(one.path) for one in waiting}:
        entries = [one for one in waiting if _together(one.path) == group]
        for values in space.combinations(group):
            flat, _ = space.attempt(values)
            wrong = [one for one in entries if not _agree(_at(content, one.key), one.value(flat))]
            problems += [_conflict(space, one, _at(content, one.key), flat) for one in wrong]
            entries = [one for one in entries if one not in wrong]
    return sorted(problems, key=lambda problem: problem.value)


def _parsed(content: bytes) -> dict[str, Any]:
    """Raises ValueError for what no later reader could take back."""
    tree = json.loads(
        content.decode("utf-8-sig"),
        object_pairs_hook=_without_doubles,
        parse_int=_short_int,
        parse_float=_finite,
        parse_constant=_finite,
    )
    if not isinstance(tree, dict):
        raise ValueError("a DeepSpeed configuration is a JSON object: {...}")
    if _depth(tree) > MAX_DEPTH:
        raise ValueError(f"values are nested deeper than {MAX_DEPTH}")
    if not json.dumps(tree, ensure_ascii=False).isprintable():
        raise ValueError("a text in it holds a character that cannot be printed")
    return tree


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return tree


def _short_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"{digits} is too long for a whole number")
    return int(digits)


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is not a finite number")
    return float(number)


def _depth(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(one) for one in inside), default=0)


def _at(content: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    place: Any = content
    for name in key.split("."):
        place = place.get(name) if isinstance(place, Mapping) else None
    return place


def _is_said(value: Any) -> bool:
    return value is not None and value != "auto"


def _agree(said: Any, decided: Any) -> bool:
    if isinstance(said, str) and isinstance(decided, str):
        return said.lower() == decided.lower()
    return isinstance(said, bool) == isinstance(decided, bool) and bool(said == decided)


def _together(path: str | None) -> frozenset[str]:
    """The fields whose open values decide this one's, too."""
    if path is None:
        return frozenset()
    return next((group for group in GROUPS if path in group), frozenset({path}))


def _no_sections(space: Space, content: Mapping[str, Any]) -> Iterator[Problem]:
    """Values where DeepSpeed and sweeper both look for a section."""
    sections = {one.key.rpartition(".")[0] for one in _DECIDED} - {""}
    for key in sections:
        value = _at(content, key)
        if _is_said(value) and not isinstance(value, dict):
            yield _problem(space, key, value, "is a section of a DeepSpeed configuration", "write {...}")


def _refused_keys(space: Space, content: Mapping[str, Any]) -> Iterator[Problem]:
    known = {one.key for one in _DECIDED}
    for section, (rule, remedy) in _REFUSED.items():
        for key, value in _leaves(content.get(section), section):
            if key not in known and _is_said(value):
                yield _problem(space, key, value, rule, remedy)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield key, value
        return
    for name, child in value.items():
        yield from _leaves(child, f"{key}.{name}")


def _conflict(space: Space, one: _Decided, said: Any, flat: Mapping[str, Any]) -> Problem:
    if one.path is None:
        rule = f"sweeper always has {one.key}: {text(one.value(flat))}"
        return _problem(space, one.key, said, rule, "remove the key")
    dimension = space.dimension(one.path)
    value = describe(dimension.open_value) if dimension else text(flat[one.path])
    place = f" ({space.places[one.path]})" if one.path in space.places else ""
    who = "the space file says" if place else "where the space file says nothing, sweeper takes"
    mended = f"change {one.path} in the space file so that both agree"
    if one.rule is None:
        with contextlib.suppress(ValueError):
            leaves()[one.path].validate(said)
            mended = f"write {short_name(one.path)}: {text(said)} in the space file"
    remedy = f"remove the key, or {mended}"
    return _problem(space, one.key, said, f"{who} {one.path}: {value}{place}", remedy)


def _problem(space: Space, key: str, said: Any, rule: str, remedy: str) -> Problem:
    return space.problem(DS_CONFIG, f"{key}: {text(said)}", rule, remedy)
