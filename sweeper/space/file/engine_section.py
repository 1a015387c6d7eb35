"""Reading the section ``engine``: what is fixed of it, and the keys of the trainer that are open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import ValidationError

from sweeper.space.config.fields import TRIAL_SECTIONS, closest, leaf_of, leaves, short_name
from sweeper.space.engine.presets import PRESETS
from sweeper.space.engine.section import PLACEHOLDERS, VALUES, Engine, EngineMetrics, EngineResume, PresetName
from sweeper.space.file.document import Complain, Located
from sweeper.space.file.opening import Opening, looks_open, read_opening

__all__ = ["ReadEngine", "read_engine"]

_FIELDS = tuple(Engine.model_fields)
_KINDS = ("jsonl", "stdout", "hf", "tensorboard", "mlflow")
_SPECIAL = ("step", "epoch", "tokens", "total_steps")
_OURS = ("model_path", "trust_remote_code")
"""Fields outside of a trial's sections that a trainer may be told."""


@dataclass(kw_only=True)
class ReadEngine:
    """What the section says."""

    engine: Engine | None = None
    """None after a complaint."""
    opened: dict[str, Opening] = field(default_factory=dict)
    """Path -> open value of a key that only the trainer knows."""
    places: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)


def read_engine(node: Located, complain: Complain) -> ReadEngine:
    """The section, each fault of it complained about."""
    return _Reader(complain).read(node)


class _Reader:
    def __init__(self, complain: Complain) -> None:
        self._complain, self._faults = complain, 0
        self._found = ReadEngine()

    def read(self, node: Located) -> ReadEngine:
        if not isinstance(node.value, dict):
            self._fault(node, "engine is a section", "write its keys beneath it: command, config, metrics")
            return self._found
        children, given = dict(node.value), dict[str, Any]()
        preset = self._preset(node, children)
        if preset is not None:
            known = PRESETS[preset]
            given = {"preset": preset, "command": known.command, "metrics": dict(known.metrics)}
            given |= {"resume": dict(known.resume), "model": known.model, "values": dict(known.values)}
        own = {key: child for key, child in children.items() if key not in PRESETS}
        for key, child in own.items():
            self._place(f"engine.{key}", child)
            if key not in _FIELDS:
                near = closest(key, [*_FIELDS, *PRESETS])
                remedy = f"did you mean {near}?" if near else f"keep {', '.join([*_FIELDS, *PRESETS])}"
                self._fault(child.key(key), "is not a key of engine", remedy)
            elif key == "values":
                continue
            elif key == "names":
                given["names"] = self._names(child)
            elif key == "metrics":
                given["metrics"] = self._section(child, EngineMetrics)
            elif key == "resume":
                given["resume"] = None if child.value is None else self._section(child, EngineResume)
            else:
                given[key] = child.plain()
        for place in (children.get(preset or ""), own.get("values")):
            self._values(place, given.setdefault("values", {}))
        for key in ("command", "metrics"):
            if key not in given:
                remedy = f"add `{key}: ...`, or name a trainer: {', '.join(get_args(PresetName))}"
                self._fault(Located(value=key, where=node.where), "the key is missing", remedy)
        if not self._faults:
            self._found.engine = self._checked(node, own, given)
        return self._found

    def _preset(self, node: Located, children: Mapping[str, Located]) -> PresetName | None:
        named = [key for key in children if key in PRESETS]
        if "preset" in children and isinstance(children["preset"].value, str):
            named.append(children["preset"].value)
        if len(named) > 1:
            self._fault(node, "one trainer runs the trials", f"keep one of {', '.join(named)}")
        elif named and named[0] in PRESETS:
            return named[0]  # type: ignore[return-value]  # it is one of PRESETS
        return None

    def _names(self, node: Located) -> dict[str, str]:
        """Our fields, in full or short -> theirs."""
        if not isinstance(node.value, dict):
            self._fault(node, "names maps our fields to the trainer's", "write names: {lr: learning_rate}")
            return {}
        known = [path for path in leaves() if path.startswith(TRIAL_SECTIONS) or path in _OURS]
        short = {short_name(path): path for path in known}
        found: dict[str, str] = {}
        for key, child in node.value.items():
            path = key if key in known else short.get(key)
            if path is None:
                near = closest(key, short)
                remedy = f"did you mean {near}?" if near else "put it under values, by the trainer's name"
                self._fault(child.key(key), "is no field of training, deepspeed or parallel", remedy)
            elif not isinstance(child.value, str) or not child.value:
                self._fault(child, "a name is the trainer's key", "write names: {lr: learning_rate}")
            else:
                found[path] = child.value
        return found

    def _section(self, node: Located, model: type[EngineMetrics | EngineResume]) -> dict[str, Any]:
        name = "metrics" if model is EngineMetrics else "resume"
        example = (
            'metrics: {jsonl: "{out}/log.jsonl"}'
            if model is EngineMetrics
            else 'resume: {state: "{out}/checkpoint-*", key: resume_from_checkpoint}'
        )
        if not isinstance(node.value, dict):
            self._fault(node, f"engine.{name} is a section", f"write {example}")
            return {}
        for key, child in node.value.items():
            self._place(f"engine.{name}.{key}", child)
            if key not in model.model_fields:
                near = closest(key, model.model_fields)
                remedy = f"did you mean {near}?" if near else f"keep {', '.join(model.model_fields)}"
                self._fault(child.key(key), f"is not a key of engine.{name}", remedy)
        tree: dict[str, Any] = node.plain()
        if model is EngineMetrics and sum(kind in tree for kind in _KINDS) != 1:
            self._fault(node, "metrics come from one place", f"keep one of {', '.join(_KINDS)}: {example}")
        return tree

    def _values(self, node: Located | None, values: dict[str, Any], prefix: str = "") -> None:
        """Keys of the trainer, dotted or in sections; closed ones go into ``values``."""
        if node is None or node.value is None:
            return
        if not isinstance(node.value, dict):
            self._fault(node, "the trainer's own keys stand here", "write values: {lora_r: [8, 16]}")
            return
        for key, child in node.value.items():
            name, path = f"{prefix}{key}", f"{VALUES}{prefix}{key}"
            if looks_open(child):
                self._place(path, child)
                opening = read_opening(leaf_of(path), child, self._fault)
                if opening is not None:
                    values.pop(name, None)
                    self._found.opened[path] = opening
            elif isinstance(child.value, dict):
                self._values(child, values, f"{name}.")
            else:
                self._place(path, child)
                values[name] = child.plain()

    def _checked(self, node: Located, own: Mapping[str, Located], given: dict[str, Any]) -> Engine | None:
        try:
            engine = Engine.model_validate(given)
        except ValidationError as error:
            for one in error.errors():
                where = own.get(str(one["loc"][0]), node)
                self._fault(where, f"engine.{'.'.join(map(str, one['loc']))}: {one['msg']}", "mend it")
            return None
        self._check(engine, own, node)
        return None if self._faults else engine

    def _check(self, engine: Engine, own: Mapping[str, Located], node: Located) -> None:
        command, metrics = own.get("command", node), own.get("metrics", node)
        try:
            program = engine.program
        except ValueError as error:
            self._fault(command, f"the command cannot be split into words ({error})", "close its quotes")
            return
        if not program:
            self._fault(command, "the command names no program", "write command: python train.py")
        for name in re.findall(r"(?<!\{)\{(\w+)\}", engine.command):
            if name not in PLACEHOLDERS:
                near = closest(name, PLACEHOLDERS)
                remedy = f"did you mean {{{near}}}?" if near else f"keep {', '.join(PLACEHOLDERS)}"
                self._fault(command, f"{{{name}}} is none of the placeholders", remedy)
        if "{config}" not in engine.command and "{flags}" not in engine.command:
            rule = "the command gets neither {config} nor {flags}, so that no value would reach the trainer"
            self._fault(command, rule, "add {config}, the trainer's file, or {flags}, its options")
        kind, place = engine.metrics.kind, engine.metrics.place
        if kind == "stdout":
            self._check_pattern(metrics, place)
        elif kind != "mlflow" and "{out}" not in place:
            rule = "all trials would write their metrics to the same place"
            self._fault(metrics, rule, f'write {kind}: "{{out}}/..." and have the trainer write there')
        for name in engine.metrics.names:
            if name not in _SPECIAL and not name.startswith(("eval/", "train/")):
                rule = f"{name} is no name of a metric: eval/..., train/..., or {', '.join(_SPECIAL)}"
                self._fault(metrics, rule, "write names: {eval/loss: THEIR NAME}")
        try:
            _ = engine.silent_after_s
        except ValueError:
            where = own.get("silent_after", node)
            self._fault(where, "silent_after must be a span of time such as 90s, 45m, 2h", "add the unit")

    def _check_pattern(self, node: Located, pattern: str) -> None:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            self._fault(node, f"the pattern is no regular expression ({error})", "mend it")
            return
        if not groups.keys() - set(_SPECIAL):
            rule = "the pattern names no metric: groups such as (?P<eval_loss>[0-9.]+)"
            self._fault(node, rule, r"write stdout: 'step (?P<step>\d+) loss (?P<eval_loss>\S+)'")

    def _place(self, path: str, node: Located) -> None:
        self._found.places[path], self._found.shown[path] = node.where, node.shown()

    def _fault(self, node: Located, rule: str, remedy: str) -> None:
        self._faults += 1
        self._complain(node, rule, remedy)
