"""The section ``engine`` once nothing is open: a command, its file, and where its metrics come from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from sweeper.space.config.duration import parse_duration_s
from sweeper.space.config.section import NonEmptyStr, Section, Words

__all__ = [
    "BATCH_SPLIT",
    "PLACEHOLDERS",
    "THE_ENGINES",
    "VALUES",
    "Engine",
    "EngineMetrics",
    "EngineResume",
    "PresetName",
]

PresetName = Literal["openrlhf", "trl", "llamafactory", "axolotl"]
PLACEHOLDERS = ("out", "config", "flags", "dp", "port")
"""What ``command`` may hold in braces; ``out``, ``dp`` and ``port`` also stand in the trainer's values."""
VALUES = "engine.values."
"""How the path of a value begins that only the trainer knows: ``engine.values.lora_r``."""
THE_ENGINES = "as the engine's file says"
"""``model_path`` and ``data_path`` where only the trainer knows them."""
_ROWS, _PASSES, _GLOBAL = (
    "training.per_device_batch_size",
    "training.gradient_accumulation_steps",
    "training.global_batch_size",
)
BATCH_SPLIT = (_ROWS, _PASSES, _GLOBAL)


class EngineMetrics(Section):
    """Where the trainer writes what it measures: one of five places, and what its metrics are called."""

    jsonl: NonEmptyStr | None = None
    """A file with one JSON object a line."""
    stdout: NonEmptyStr | None = None
    """A regular expression with named groups, searched in each line of the output: ``step``, ``epoch``,
    ``tokens``, and the metrics, where ``eval_loss`` is eval/loss."""
    hf: NonEmptyStr | None = None
    """A folder in which ``trainer_state.json`` is written, by itself or in its ``checkpoint-*``."""
    tensorboard: NonEmptyStr | None = None
    """A folder in which event files are written."""
    mlflow: NonEmptyStr | None = None
    """A tracking URI; the runs of an experiment that the trainer is told by ``MLFLOW_EXPERIMENT_NAME``."""
    names: dict[str, str] = Field(default_factory=dict)
    """Our name of a metric, ``eval/loss``, or ``step``, ``epoch``, ``tokens``, ``total_steps`` -> theirs."""

    @property
    def kind(self) -> Literal["jsonl", "stdout", "hf", "tensorboard", "mlflow"]:
        return next(one for one in ("jsonl", "stdout", "hf", "tensorboard", "mlflow") if getattr(self, one))

    @property
    def place(self) -> str:
        """The path, address or pattern, as written."""
        return str(getattr(self, self.kind))


class EngineResume(Section):
    """How the trainer goes on from a state of its own."""

    state: NonEmptyStr
    """Where its states are, with a ``*``: of several the one with the highest number in its name, or in that
    of its folder."""
    key: NonEmptyStr
    """What it is told by."""
    value: bool | str = "{state}"
    """What the key is then; ``{state}`` is the path that was found, ``{folder}`` the folder that it is in."""


class Engine(Section):
    """Another trainer that is the trial."""

    preset: PresetName | None = None
    command: NonEmptyStr
    """What is run, without a shell; ``VARIABLE=value`` may stand before it. ``{config}`` is the trainer's
    file, ``{flags}`` the same as ``--key value``, ``{out}`` a folder of the trial's own, ``{dp}`` what
    ``parallel.dp`` says, ``{port}`` a free port."""
    config: Annotated[str | dict[str, Any], Words("a path, or the content itself")] = ""
    """The trainer's own file, or its content, which stands here once the file was read: as a mapping, or as
    JSON in one text where one of its own texts has several lines."""
    format: Literal["yaml", "json"] = "yaml"
    """How ``{config}`` is written."""
    names: dict[str, str] = Field(default_factory=dict)
    """Our field -> the trainer's key, of the fields that it is given."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Keys that only the trainer knows, dotted where they stand in a section; each may be open."""
    metrics: EngineMetrics
    resume: EngineResume | None = None
    """None: a trial that was cut off begins anew."""
    model: NonEmptyStr = "{out}"
    """Where the trained model is at the end; it becomes ``trials/<number>/model``."""
    silent_after: Annotated[NonEmptyStr, Field(pattern=r"^\S+$")] = "30m"
    """A command that prints nothing and measures nothing for so long is taken for dead."""

    @property
    def silent_after_s(self) -> float:
        return parse_duration_s(self.silent_after)

    @property
    def content(self) -> Mapping[str, Any]:
        """Of the trainer's file, read by the loader."""
        if isinstance(self.config, dict):
            return self.config
        return dict(json.loads(self.config)) if self.config else {}

    @property
    def words(self) -> list[str]:
        """The command's, with placeholders."""
        return shlex.split(self.command)

    @property
    def program(self) -> str:
        """The first word that sets no variable."""
        return next((one for one in self.words if not is_assignment(one)), "")

    def acts(self, path: str) -> bool:
        """Whether a field of ``training``, ``deepspeed`` or ``parallel`` means anything to the trainer."""
        if path == _PASSES:
            return path in self.names or _GLOBAL in self.names
        return path in self.names or (path == "parallel.dp" and "{dp}" in self.command)

    @property
    def splits_batch(self) -> bool:
        """Whether micro-batch and accumulation can change and leave the global batch as it is."""
        return _ROWS in self.names and (_PASSES in self.names or _GLOBAL in self.names)

    @property
    def knows_rows(self) -> bool:
        """Whether it is known how many rows a step learns from."""
        return _GLOBAL in self.names or (_ROWS in self.names and _PASSES in self.names)


def is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()
