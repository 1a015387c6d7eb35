"""Trials of other tools as past trials, by a mapping that says what their names mean.

metric: eval/loss              # what their value is called here
mode: min
value: eval_loss               # their metric's name; an Optuna study has one value without a name
model: {model_type: llama, parameters: 1.2e9, hidden_size: 2048, lora: true}
names: {learning_rate: training.lr, num_train_epochs: training.epochs}
words: {linear_with_warmup: linear}
fixed: {training.global_batch_size: 16}
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweeper.errors import Problem, SpaceFileError
from sweeper.history.features import Features
from sweeper.history.stored import SECTIONS, PastTrial, SweepFacts, SweepOfHistory
from sweeper.space import read_record
from sweeper.space.config.fields import Leaf, closest, leaves, nested
from sweeper.space.file.document import read_document

__all__ = ["ForeignTrial", "ImportMap", "Imported", "past_sweep", "read_import_map"]


@dataclass(frozen=True, kw_only=True)
class ForeignTrial:
    """One trial of another tool."""

    number: int
    values: Mapping[str, Any]
    """Under the tool's own names; numbers may be texts."""
    evaluations: Sequence[tuple[float, float]] = ()
    """(steps or tokens, value), at least the last one."""
    is_complete: bool = True
    seconds: float | None = None


class ImportMap(BaseModel):
    """See the module's example."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metric: str = "eval/loss"
    mode: Literal["min", "max"] = "min"
    value: str | None = None
    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``Features``."""
    names: dict[str, str] = Field(min_length=1)
    """Their name -> a field of a configuration."""
    words: dict[str, str] = Field(default_factory=dict)
    """Their option -> the one that is meant."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Field -> the value that all trials had."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A sweep, and the trials of it that could not be used."""

    sweep: SweepOfHistory
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> trials."""


def read_import_map(file: Path) -> ImportMap:
    """Raises SpaceFileError with all that is wrong."""
    try:
        found = ImportMap.model_validate(read_document(file).plain())
    except ValidationError as error:
        raise SpaceFileError(_problem(file, one) for one in error.errors()) from error
    if problems := [*_wrong_fields(file, found), *_wrong_features(file, found)]:
        raise SpaceFileError(problems)
    return found


def past_sweep(
    trials: Iterable[ForeignTrial], mapping: ImportMap, *, source: str, name: str, began_s: float
) -> Imported:
    """One sweep of history; importing the same source again gives the same id."""
    read = [_past_trial_or_reason(trial, mapping) for trial in trials]
    facts = SweepFacts(
        id=hashlib.sha256(f"{source}\n{name}".encode()).hexdigest()[:32],
        name=name,
        metric=mapping.metric,
        mode=mapping.mode,
        began_s=began_s,
        features=_features(name, mapping),
        source=source,
    )
    kept = tuple(one for one in read if isinstance(one, PastTrial))
    left_out = Counter(one for one in read if isinstance(one, str))
    return Imported(sweep=SweepOfHistory(facts=facts, trials=kept), left_out=left_out)


def _past_trial_or_reason(trial: ForeignTrial, mapping: ImportMap) -> PastTrial | str:
    try:
        return _past_trial(trial, mapping)
    except ValueError as error:
        return str(error)


def _past_trial(trial: ForeignTrial, mapping: ImportMap) -> PastTrial:
    """Raises ValueError, with the reason, where it tells nothing."""
    flat = dict(mapping.fixed)
    for theirs, path in mapping.names.items():
        if theirs in trial.values:
            flat[path] = _ours(theirs, path, trial.values[theirs], mapping)
    if not trial.evaluations:
        raise ValueError("it has no value")
    if not any(path in flat for path in mapping.names.values()):
        raise ValueError("it has none of the values that the mapping names")
    evaluations = [(at, value if math.isfinite(value) else None) for at, value in sorted(trial.evaluations)]
    diverged = evaluations[-1][1] is None
    return PastTrial(
        number=trial.number,
        state="FAIL" if diverged else "COMPLETE" if trial.is_complete else "PRUNED",
        config={section: own for section, own in nested(flat).items() if section in SECTIONS},
        evaluations=tuple(evaluations),
        total_tokens=evaluations[-1][0] if trial.is_complete else None,
        seconds=trial.seconds,
    )


def _ours(theirs: str, path: str, value: Any, mapping: ImportMap) -> Any:
    meant = mapping.words.get(str(value), value)
    try:
        return _read(leaves()[path], meant)
    except ValueError as error:
        raise ValueError(f"{theirs}: {meant} is no value of {path}") from error


def _read(leaf: Leaf, value: Any) -> Any:
    """A value that may be a text, as MLflow's parameters are. Raises ValueError where it is none of the
    field's."""
    if isinstance(value, str):
        if leaf.kind == "switch":
            value = {"true": True, "false": False}.get(value.strip().lower(), value)
        elif leaf.kind in ("number", "whole"):
            number = float(value)
            value = int(number) if number.is_integer() else number
    if isinstance(value, float) and leaf.kind == "whole" and value.is_integer():
        value = int(value)
    return leaf.validate(value)


def _wrong_fields(file: Path, mapping: ImportMap) -> Iterator[Problem]:
    for path in (*mapping.names.values(), *mapping.fixed):
        if path.partition(".")[0] not in SECTIONS or path not in leaves():
            near = closest(path, [one for one in leaves() if one.partition(".")[0] in SECTIONS])
            remedy = f"did you mean {near}?" if near else "write one such as training.lr"
            rule = f"is no field of the sections {', '.join(SECTIONS)}"
            yield Problem(where=str(file), value=path, rule=rule, remedy=remedy)
    for path, value in mapping.fixed.items():
        leaf = leaves().get(path)
        try:
            _ = leaf and _read(leaf, value)
        except ValueError:
            assert leaf is not None
            rule = f"must be {leaf.expects}"
            yield Problem(
                where=str(file), value=f"{path}: {value}", rule=rule, remedy=leaf.mend(value, False)
            )


def _wrong_features(file: Path, mapping: ImportMap) -> Iterator[Problem]:
    known = [one.name for one in fields(Features)]
    for name in mapping.model.keys() - set(known):
        rule, remedy = "is no feature of a model", f"known are {', '.join(known)}"
        yield Problem(where=str(file), value=f"model.{name}", rule=rule, remedy=remedy)
    try:
        _features("", mapping)
    except ValidationError as error:
        yield from (_problem(file, one, "model.") for one in error.errors())


def _features(name: str, mapping: ImportMap) -> Features:
    whole = {key: int(one) if isinstance(one, float) else one for key, one in mapping.model.items()}
    return read_record(Features, {"model": name, **whole})


def _problem(file: Path, error: Any, before: str = "") -> Problem:
    place = before + ".".join(map(str, error["loc"]))
    value = "" if error["type"] == "missing" else f": {json.dumps(error['input'], default=str)}"
    remedy = "see the mapping in docs/history.md"
    return Problem(where=str(file), value=f"{place}{value}", rule=error["msg"].lower(), remedy=remedy)
