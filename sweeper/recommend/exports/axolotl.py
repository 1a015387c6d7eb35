"""Axolotl's YAML."""

from __future__ import annotations

from typing import Any

from sweeper.recommend.exports.consumer import Consumer, Found, Note, Part, Run
from sweeper.recommend.exports.memory import (
    gpus_note,
    precision_part,
    read_precision,
    read_zero,
    trainer_section,
)
from sweeper.recommend.exports.schedules import hf_schedule, read_hf_schedule, read_warmup, rising_steps
from sweeper.recommend.exports.shared import (
    builder_of,
    joined,
    lora_part,
    read_lora,
    read_sources,
    source_files,
)
from sweeper.space.engine.keys import AXOLOTL_KEYS

__all__ = ["AXOLOTL"]

_CHAT = {"type": "chat_template"}


def _pair(asked: str, answered: str) -> dict[str, Any]:
    fields = {"field_instruction": asked, "field_output": answered}
    return {"type": {**fields, "format": "{instruction}", "no_input_format": "{instruction}"}}


_ROWS: dict[str | None, dict[str, Any]] = {
    "alpaca": {"type": "alpaca"},
    "messages": {**_CHAT, "field_messages": "messages"},
    "sharegpt": {
        **_CHAT,
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    },
    "prompt_completion": _pair("prompt", "completion"),
    "question_answer": _pair("question", "answer"),
    "text": {"type": "completion", "field": "text"},
}


def _write(run: Run) -> Part:
    config, training = run.config, run.config.training
    rows, notes = source_files(run)
    if run.fields not in ("messages", "sharegpt"):
        said = "rows that are no messages are joined without the chat template there"
        notes.append(Note("chat_template", said))
    rising = rising_steps(run)
    if rising == 1:
        notes.append(Note("training.warmup_steps", "1 step of warm-up is made 2 there"))
    if training.warmup_steps is None and rising:
        said = f"is rounded down there: {rising} steps of {run.steps} are written instead"
        notes.append(Note("training.warmup_ratio", said))
    known: dict[str, Any] = {
        "datasets": [_dataset(one, run) for one in rows["files"]],
        "optimizer": "adamw_torch_fused",
        "train_on_inputs": False,
        "warmup_steps": rising,
        "excess_length_strategy": training.overlong,
        **precision_part(run),
        "deepspeed": trainer_section(run),
        "output_dir": f"{config.name}-axolotl",
    }
    if training.lora:
        known["adapter"] = "lora"
    if isinstance(config.eval_data, str):
        known["test_datasets"] = [_dataset(config.eval_data, run)]
    else:
        known |= {"val_set_size": config.eval_data}
        notes.append(Note("eval_data", "the same share of the rows is held out, drawn otherwise"))
    known["evals_per_epoch"] = max(1, round(config.objective.evaluations / training.epochs))
    targets, of_lora = lora_part(run, "lora_target_modules", None)
    if "lora_target_modules" in targets and targets["lora_target_modules"] is None:
        targets = {key: one for key, one in targets.items() if key != "lora_target_modules"}
        targets["lora_target_linear"] = True
    return joined((known, notes), hf_schedule(run, "lr_scheduler"), (targets, of_lora), gpus_note(run))


def _dataset(path: str, run: Run) -> dict[str, Any]:
    builder, form = builder_of(path), _ROWS.get(run.fields, _CHAT)
    return {"path": path, **({"ds_type": builder} if builder else {}), **form}


def _read(found: Found) -> None:
    tree = found.tree
    read_warmup(found)
    if "lr_scheduler" in tree:
        minimum = tree.get("cosine_min_lr_ratio")
        read_hf_schedule(found, "lr_scheduler")
        if minimum is not None and found.values.get("training.scheduler") == "cosine":
            found.values["training.final_lr_ratio"] = tree.pop("cosine_min_lr_ratio")
    read_precision(found)
    adapter = tree.get("adapter")
    if adapter in (None, "", "lora"):
        tree.pop("adapter", None)
    whole = tree.pop("lora_target_linear", None) is True
    read_lora(found, on=adapter in ("lora", "qlora"), targets_key="lora_target_modules", everything=None)
    if whole and adapter:
        found.values["training.lora.targets"] = "all-linear"
    if (section := tree.pop("deepspeed", None)) is not None:
        read_zero(found, section, "deepspeed")
    datasets = tree.pop("datasets", None)
    given = [one for one in datasets if isinstance(one, dict)] if isinstance(datasets, list) else []
    read_sources(found, [one.get("data_files") or one.get("path") for one in given])
    _read_held_out(found)
    if (strategy := tree.pop("excess_length_strategy", None)) is not None:
        found.values["training.overlong"] = strategy
    if str(tree.get("optimizer", "")).startswith("adamw_torch"):
        del tree["optimizer"]
    for key in ("output_dir", "train_on_inputs", "evals_per_epoch", "logging_steps", "saves_per_epoch"):
        if key != "train_on_inputs" or tree.get(key) is False:
            tree.pop(key, None)


def _read_held_out(found: Found) -> None:
    share, rows = found.tree.pop("val_set_size", None), found.tree.pop("test_datasets", None)
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        found.values["eval_data"] = rows[0].get("path")
    elif share:
        found.values["eval_data"] = share


AXOLOTL = Consumer(
    name="axolotl",
    title="Axolotl",
    version="0.19.0",
    form="yaml",
    command="axolotl train FILE",
    keys=AXOLOTL_KEYS,
    write=_write,
    read=_read,
    special={
        "training.scheduler, final_lr_ratio, decay_ratio": "lr_scheduler, lr_scheduler_kwargs",
        "training.warmup_ratio, warmup_steps": "warmup_steps",
        "training.lora": "adapter, lora_alpha, lora_target_linear, lora_target_modules",
        "training.overlong": "excess_length_strategy",
        "deepspeed.zero_stage, offload, config": "deepspeed (the section itself)",
        "deepspeed.precision": "bf16, fp16",
        "data_path": "datasets",
        "eval_data": "val_set_size, test_datasets",
        "objective.evaluations": "evals_per_epoch",
    },
    remarks=(
        "Left unsaid, it warms up over 3 % of the steps, 100 at most; a share is rounded down, and 1 step "
        "is made 2: the number of steps is written.",
        "`cosine_min_lr_ratio` is not used, which it skips where DeepSpeed has a scheduler.",
        "Its sweep files are read too: `sweeper init --from config.yaml --from sweep.yaml`.",
    ),
)
