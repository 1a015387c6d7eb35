"""What several trainers call the same: names of transformers' ``TrainingArguments``, adapters and rows."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from sweeper.recommend.exports.consumer import Found, Note, Part, Run
from sweeper.space.engine.keys import BATCH_KEYS, TRAINER_KEYS

__all__ = [
    "BATCH_KEYS",
    "TRAINER_KEYS",
    "evaluation_part",
    "joined",
    "lora_part",
    "loss_notes",
    "read_evaluation",
    "read_lora",
    "read_sources",
    "source_files",
]

_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


def joined(*parts: Part) -> Part:
    keys: dict[str, Any] = {}
    for part, _ in parts:
        keys |= part
    return keys, [note for _, notes in parts for note in notes]


def lora_part(run: Run, targets_key: str, everything: Any, *, whole_alpha: bool = True) -> Part:
    """Rank and dropout stand in the table; here are targets and alpha, often a whole number there."""
    lora, notes, said = run.config.training.lora, list[Note](), dict[str, Any]()
    if not lora:
        return said, notes
    named = lora.targets
    if isinstance(named, str) and named != "all-linear":
        named = tuple(one.strip() for one in named.split(","))
    said[targets_key] = everything if named == "all-linear" else list(named)
    alpha = round(lora.alpha) if whole_alpha else lora.alpha
    if alpha != lora.alpha:
        notes.append(Note("training.lora.alpha", f"{lora.alpha:g} is a whole number there: {alpha}"))
    return said | {"lora_alpha": max(alpha, 1) if whole_alpha else alpha}, notes


def read_lora(found: Found, *, on: bool, targets_key: str, everything: Any) -> None:
    """After the table: adapters or none, and what they are put on."""
    keys = ("training.lora.rank", "training.lora.alpha", "training.lora.dropout")
    targets = found.tree.pop(targets_key, None)
    if (alpha := found.tree.pop("lora_alpha", None)) is not None:
        found.values["training.lora.alpha"] = alpha
    if not on:
        for key in keys:
            found.values.pop(key, None)
        found.values["training.lora"] = False
    elif targets is not None:
        whole = targets in (everything, "all-linear", ["all-linear"])
        found.values["training.lora.targets"] = "all-linear" if whole else targets


def source_files(run: Run) -> Part:
    """``files``: the paths of the rows. What else a source says is named."""
    sources, notes = run.config.sources, list[Note]()
    for one in sources:
        if one.weight != 1:
            notes.append(Note("data_path", f"{one.path} is seen {one.weight:g} times an epoch; once there"))
        if one.columns:
            said = ", ".join(f"{name} as {field}" for name, field in one.columns.items())
            notes.append(Note("data_path", f"columns of {one.path} are to be renamed: {said}"))
    return {"files": [one.path for one in sources]}, notes


def builder_of(path: str) -> str | None:
    """The builder of ``datasets`` that reads a file; None for a hub id or a folder."""
    return _BUILDERS.get(PurePath(path).suffix)


def read_sources(found: Found, paths: list[Any]) -> None:
    named = [one for one in paths if isinstance(one, str) and one]
    if named:
        found.values["data_path"] = named[0] if len(named) == 1 else named


def evaluation_part(run: Run, *, split_key: str) -> Part:
    """As many held-out evaluations as here, over a share of the rows that the trainer draws itself."""
    held_out, evaluations = run.config.eval_data, run.config.objective.evaluations
    if isinstance(held_out, str):
        said = f"the held-out rows of {held_out} have no key there; evaluate with their own tools"
        return {}, [Note("eval_data", said)]
    said = "the same share of the rows is held out, drawn otherwise: losses are not of the same rows"
    notes = [Note("eval_data", said)]
    return {split_key: held_out, "eval_strategy": "steps", "eval_steps": round(1 / evaluations, 6)}, notes


def read_evaluation(found: Found, split_key: str) -> None:
    if (share := found.tree.pop(split_key, None)) is not None and share != 0:
        found.values["eval_data"] = share
    strategy, steps = found.tree.pop("eval_strategy", None), found.tree.pop("eval_steps", None)
    if isinstance(steps, float) and 0 < steps < 1:
        found.values["objective.evaluations"] = max(1, round(1 / steps))
    elif strategy not in (None, "no", False):
        found.notes.append(
            Note("objective.evaluations", f"{strategy} {steps or ''}".strip() + " is not read")
        )


def loss_notes(run: Run) -> Part:
    """What holds for every trainer but ours."""
    training, notes = run.config.training, list[Note]()
    if training.overlong == "drop":
        notes.append(Note("training.overlong", "drop: longer rows are cut there"))
    if run.config.objective.at == "best":
        notes.append(Note("objective.at", "best: their model is that of the end"))
    if run.config.evaluation.retention is not None:
        notes.append(Note("evaluation.retention", "what the model forgets is not measured there"))
    return {}, notes
