"""TRL's ``trl sft --config``, and the script for what its command cannot do: see trl_script.py."""

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
from sweeper.recommend.exports.schedules import (
    SCHEDULE_WORDS,
    hf_schedule,
    read_hf_schedule,
    read_warmup,
    warmup_value,
)
from sweeper.recommend.exports.shared import (
    builder_of,
    evaluation_part,
    joined,
    lora_part,
    loss_notes,
    read_evaluation,
    read_lora,
    read_sources,
    source_files,
)
from sweeper.space.engine.keys import TRL_KEYS

__all__ = ["TRL"]


def _write(run: Run) -> Part:
    rows, notes = source_files(run)
    known: dict[str, Any] = {"datasets": [_dataset(one) for one in rows["files"]]}
    known["assistant_only_loss" if run.fields in ("messages", "sharegpt") else "completion_only_loss"] = True
    if run.fields not in ("messages", "text"):
        said = "`trl sft` joins prompt and completion without the chat template; the script renders them"
        notes.append(Note("data_format", said))
    if run.fields == "text":
        known = {"datasets": known["datasets"]}
    trainer = {
        "warmup_steps": warmup_value(run),
        **precision_part(run),
        "deepspeed": trainer_section(run),
        "use_cpu": run.config.resources.gpus_per_rank == 0,
        "use_peft": bool(run.config.training.lora),
        "output_dir": f"{run.config.name}-trl",
    }
    return joined(
        (known | trainer, notes),
        hf_schedule(run),
        lora_part(run, "lora_target_modules", ["all-linear"]),
        evaluation_part(run, split_key="test_split_size"),
        loss_notes(run),
        gpus_note(run),
    )


def _dataset(path: str) -> dict[str, Any]:
    builder = builder_of(path)
    return {"path": path} if builder is None else {"path": builder, "data_files": path}


def _read(found: Found) -> None:
    tree = found.tree
    read_warmup(found)
    read_hf_schedule(found)
    read_precision(found)
    read_lora(
        found, on=tree.pop("use_peft", False) is True, targets_key="lora_target_modules", everything=None
    )
    if (section := tree.pop("deepspeed", None)) is not None:
        read_zero(found, section, "deepspeed")
    datasets = tree.pop("datasets", None)
    given = [one for one in datasets if isinstance(one, dict)] if isinstance(datasets, list) else []
    files = [one.get("data_files") or one.get("path") for one in given]
    read_sources(found, files or [tree.pop("dataset_name", None)])
    read_evaluation(found, "test_split_size")
    if tree.pop("use_cpu", False) is True:
        found.values["resources.gpus_per_rank"] = 0
    for key in ("output_dir", "report_to", "logging_steps", "save_strategy", "save_steps", "run_name"):
        tree.pop(key, None)
    if tree.get("completion_only_loss") is True or tree.get("assistant_only_loss") is True:
        for key in ("completion_only_loss", "assistant_only_loss"):
            tree.pop(key, None)  # what sweeper always does


TRL = Consumer(
    name="trl",
    title="TRL",
    version="1.16.0",
    form="yaml",
    command="trl sft --config FILE",
    keys=TRL_KEYS,
    write=_write,
    read=_read,
    special={
        "training.scheduler, final_lr_ratio, decay_ratio": SCHEDULE_WORDS,
        "training.warmup_ratio, warmup_steps": "warmup_steps (below 1 a share)",
        "training.lora": "use_peft, lora_alpha, lora_target_modules",
        "deepspeed.zero_stage, offload, config": "deepspeed (the section itself)",
        "deepspeed.precision": "bf16, fp16",
        "data_path": "datasets",
        "eval_data": "test_split_size",
        "objective.evaluations": "eval_strategy, eval_steps",
    },
    remarks=(
        "With `--output sft.yaml` a script `sft_train.py` is written beside it, for `accelerate launch` or "
        "`deepspeed`: it draws our own learning rate curve, exponential and warm-up included, renders every "
        "format of rows by the chat template as sweeper does, and takes held-out rows from their file.",
        "`trl sft` reads rows of messages, prompt and completion, and text only.",
    ),
)
