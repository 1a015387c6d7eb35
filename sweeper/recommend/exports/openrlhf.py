"""OpenRLHF's command line for supervised fine-tuning."""

from __future__ import annotations

import math
from typing import Any

from sweeper.recommend.exports.consumer import Consumer, Found, Note, Part, Run
from sweeper.recommend.exports.schedules import rising_steps
from sweeper.recommend.exports.shared import joined, loss_notes, read_sources, source_files
from sweeper.space.engine.keys import OPENRLHF_KEYS, whole

__all__ = ["OPENRLHF"]

_HALFWAY = 0.1
"""To a linear fall to this share of the peak or more, a cosine to the same is nearer than a linear to 0."""
_COLUMNS = {
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
    "alpaca": ("instruction", "output"),
}


def _write(run: Run) -> Part:
    training, config, notes = run.config.training, run.config, list[Note]()
    said: dict[str, Any] = {
        "adam.betas": [training.adam_beta1, training.adam_beta2],
        "ds.param_dtype": "bf16" if config.deepspeed.precision == "fp32" else config.deepspeed.precision,
        "ds.adam_offload": config.deepspeed.offload != "none",
        "ckpt.output_dir": f"{config.name}-openrlhf",
    }
    if training.epochs != whole(training.epochs):
        said_epochs = f"{training.epochs:g} epochs: whole ones only there, {whole(training.epochs)}"
        notes.append(Note("training.epochs", said_epochs))
    if config.deepspeed.precision == "fp32":
        notes.append(Note("deepspeed.precision", "fp32 is not known there; the nearest is bf16"))
    if config.deepspeed.offload == "all":
        notes.append(Note("deepspeed.offload", "all: only the optimizer's states are moved there"))
    if config.deepspeed.config:
        notes.append(Note("deepspeed.config", "a DeepSpeed configuration of one's own is not taken there"))
    if config.parallel.pp > 1:
        notes.append(Note("parallel.pp", f"{config.parallel.pp} stages are not known there"))
    if training.lora:
        targets = training.lora.targets
        named = targets.split(",") if isinstance(targets, str) else list(targets)
        said |= {"ds.lora.target_modules": [one.strip() for one in named]}
        said |= {"ds.lora.alpha": max(1, round(training.lora.alpha))}
        if said["ds.lora.alpha"] != training.lora.alpha:
            notes.append(Note("training.lora.alpha", f"{training.lora.alpha:g} is a whole number there"))
    notes.append(Note("objective.metric", "their losses are means over micro-batches, not over tokens"))
    return joined((said, notes), _schedule(run), _rows(run), loss_notes(run))


def _schedule(run: Run) -> Part:
    training, notes = run.config.training, list[Note]()
    ratio, name, rising = training.final_lr_ratio, training.scheduler, rising_steps(run)
    share = training.warmup_ratio
    if training.warmup_steps is not None or math.ceil(run.steps * share) != rising:
        share = max(rising - 0.5, 0) / run.steps  # rounded up there
        notes.append(Note("training.warmup_ratio", f"{rising} steps are a share there, of {run.steps} steps"))
    if name == "constant" or ratio == 1:
        theirs, least = "constant_with_warmup", None
    elif name == "cosine":
        theirs, least = "cosine_with_min_lr", ratio
    elif name == "linear" and not ratio:
        theirs, least = "linear", None
    elif name == "wsd":
        theirs, least = "constant_with_warmup", None
        notes.append(_nearest("wsd ends in a TypeError there", theirs, "which does not fall at the end"))
    elif ratio < _HALFWAY and name == "linear":
        theirs, least = "linear", None
        notes.append(_nearest(f"linear to {ratio:g} of the peak is not known there", theirs, "to 0"))
    else:
        theirs, least = "cosine_with_min_lr", ratio
        notes.append(_nearest(f"{name} to {ratio:g} of the peak is not known there", theirs, "to the same"))
    said = {"lr_scheduler": theirs, "lr_warmup_ratio": share}
    return said | ({} if least is None else {"min_lr_ratio": least}), notes


def _nearest(what: str, name: str, how: str) -> Note:
    return Note("training.scheduler", f"{what}; the nearest is {name}, {how}")


def _rows(run: Run) -> Part:
    rows, notes = source_files(run)
    said: dict[str, Any] = {"data.dataset": ",".join(rows["files"]), "data.apply_chat_template": True}
    if run.fields in ("messages", "sharegpt"):
        said |= {"data.input_key": "messages" if run.fields == "messages" else "conversations"}
        said |= {"data.multiturn": True}
    elif run.fields in _COLUMNS:
        said["data.input_key"], said["data.output_key"] = _COLUMNS[run.fields]
    else:
        said |= {"data.input_key": "prompt", "data.output_key": "completion"}
        notes.append(
            Note("data_format", f"{run.fields or 'auto'}: rows of prompt and completion are wanted there")
        )
    if isinstance(run.config.eval_data, str):
        said["eval.dataset"] = run.config.eval_data
    else:
        notes.append(
            Note("eval_data", "a share of the rows cannot be held out there: give --eval.dataset a file")
        )
    return said, notes


_NAMES = {
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine",
}


def _read(found: Found) -> None:
    tree, values = found.tree, found.values
    if isinstance(betas := tree.pop("adam.betas", None), list) and len(betas) == 2:
        values["training.adam_beta1"], values["training.adam_beta2"] = betas
    if (precision := tree.pop("ds.param_dtype", None)) is not None:
        values["deepspeed.precision"] = precision
    if tree.pop("ds.adam_offload", False) is True:
        values["deepspeed.offload"] = "optimizer"
    _read_lora(found)
    name, least = tree.get("lr_scheduler"), tree.pop("min_lr_ratio", None)
    if name in _NAMES:
        tree.pop("lr_scheduler")
        values["training.scheduler"] = _NAMES[name]
        if name == "cosine_with_min_lr":
            values["training.final_lr_ratio"] = 0.1 if least is None else least  # its default
        elif name != "constant_with_warmup":
            values["training.final_lr_ratio"] = 0
    elif name is not None:
        found.notes.append(Note("training.scheduler", f"{name} is none of ours; nothing is said instead"))
    read_sources(found, str(tree.pop("data.dataset", "")).split(","))
    if (held_out := tree.pop("eval.dataset", None)) is not None:
        values["eval_data"] = held_out
    asked, answered = tree.pop("data.input_key", None), tree.pop("data.output_key", None)
    if asked and answered and (asked, answered) not in _COLUMNS.values():
        values["data_path"] = {
            "path": values.get("data_path", "data.jsonl"),
            "columns": {asked: "prompt", answered: "completion"},
        }
    for key in ("data.apply_chat_template", "data.multiturn", "ckpt.output_dir"):
        tree.pop(key, None)


def _read_lora(found: Found) -> None:
    rank, targets = found.values.pop("training.lora.rank", 0), found.tree.pop("ds.lora.target_modules", None)
    alpha, dropout = found.tree.pop("ds.lora.alpha", None), found.values.pop("training.lora.dropout", None)
    if rank == 0:
        found.values["training.lora"] = False
        return
    given = {"rank": rank, "alpha": alpha, "dropout": dropout}
    given["targets"] = "all-linear" if targets in (["all-linear"], "all-linear") else targets
    found.values |= {f"training.lora.{name}": one for name, one in given.items() if one is not None}


OPENRLHF = Consumer(
    name="openrlhf",
    title="OpenRLHF",
    version="0.11.2",
    form="command",
    command="deepspeed --module openrlhf.cli.train_sft",
    keys=OPENRLHF_KEYS,
    write=_write,
    read=_read,
    special={
        "training.scheduler, final_lr_ratio": "--lr_scheduler, --min_lr_ratio",
        "training.adam_beta1, adam_beta2": "--adam.betas",
        "training.lora": "--ds.lora.alpha, --ds.lora.target_modules",
        "deepspeed.offload": "--ds.adam_offload",
        "deepspeed.precision": "--ds.param_dtype",
        "data_path": "--data.dataset, --data.input_key, --data.output_key",
        "eval_data": "--eval.dataset (a file)",
    },
    remarks=(
        "Accumulation follows from the two batch sizes and the number of GPUs.",
        "Its schedulers get no arguments but the two cosines with a minimum: a linear fall to a share of "
        "the peak, exponential and wsd cannot be had; whole epochs only.",
    ),
)
