"""LLaMA-Factory's YAML for ``llamafactory-cli train``."""

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
    rising_steps,
    warmup_value,
)
from sweeper.recommend.exports.shared import (
    evaluation_part,
    joined,
    lora_part,
    loss_notes,
    read_evaluation,
    read_lora,
    read_sources,
    source_files,
)
from sweeper.space.engine.keys import LLAMAFACTORY_KEYS

__all__ = ["LLAMAFACTORY"]

_OPENAI = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
_ROWS: dict[str | None, dict[str, Any]] = {
    "alpaca": {"formatting": "alpaca"},
    "prompt_completion": {"columns": {"prompt": "prompt", "response": "completion"}},
    "question_answer": {"columns": {"prompt": "question", "response": "answer"}},
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations"}},
    "messages": {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": _OPENAI},
}
_FIXED = {"stage": "sft", "do_train": True, "train_on_prompt": False}


def _write(run: Run) -> Part:
    rows, notes = source_files(run)
    form = _ROWS.get(run.fields, {})
    if run.fields not in _ROWS:
        notes.append(Note("data_format", f"{run.fields or 'auto'}: read as alpaca there"))
    infos = {f"rows{number}": {"file_name": path, **form} for number, path in enumerate(rows["files"])}
    notes.append(
        Note("chat_template", "add `template:` with the model's name there; without it, the tokenizer's")
    )
    said: dict[str, Any] = {
        **_FIXED,
        "dataset": ",".join(infos),
        "dataset_dir": infos,
        "finetuning_type": "lora" if run.config.training.lora else "full",
        "warmup_steps": warmup_value(run),
        **precision_part(run),
        "deepspeed": trainer_section(run),
        "use_cpu": run.config.resources.gpus_per_rank == 0,
        "output_dir": f"{run.config.name}-llamafactory",
    }
    schedule, about = hf_schedule(run)
    if schedule["lr_scheduler_type"] == "warmup_stable_decay":  # else a third of the steps would be stable
        arguments = schedule["lr_scheduler_kwargs"]
        arguments["num_stable_steps"] = run.steps - rising_steps(run) - arguments["num_decay_steps"]
    targets, of_lora = lora_part(run, "lora_target", "all")
    if isinstance(targets.get("lora_target"), list):
        targets["lora_target"] = ",".join(targets["lora_target"])
    held_out = evaluation_part(run, split_key="val_size")
    return joined(
        (said, notes), (schedule, about), (targets, of_lora), held_out, loss_notes(run), gpus_note(run)
    )


def _read(found: Found) -> None:
    tree = found.tree
    read_warmup(found)
    read_hf_schedule(found)
    read_precision(found)
    kind = tree.get("finetuning_type", "lora")  # its default
    if kind in ("lora", "full"):
        tree.pop("finetuning_type", None)
    read_lora(found, on=kind == "lora", targets_key="lora_target", everything="all")
    if isinstance(named := found.values.get("training.lora.targets"), str) and named != "all-linear":
        found.values["training.lora.targets"] = [one.strip() for one in named.split(",")]
    if (section := tree.pop("deepspeed", None)) is not None:
        read_zero(found, section, "deepspeed")
    names, infos = str(tree.pop("dataset", "")).split(","), tree.pop("dataset_dir", None)
    known = infos if isinstance(infos, dict) else {}
    read_sources(found, [known.get(one.strip(), {}).get("file_name", one.strip()) for one in names])
    if names != [""] and not known:
        where = f"{infos or 'data'}/dataset_info.json"
        found.notes.append(
            Note("data_path", f"{', '.join(names)}: names of {where}, to be replaced by files")
        )
    read_evaluation(found, "val_size")
    if tree.pop("use_cpu", False) is True:
        found.values["resources.gpus_per_rank"] = 0
    for key, value in _FIXED.items():
        if tree.get(key) == value:
            del tree[key]
    for key in (
        "output_dir",
        "report_to",
        "logging_steps",
        "save_steps",
        "plot_loss",
        "overwrite_output_dir",
    ):
        tree.pop(key, None)
    if tree.get("packing") is True and not found.values.get("training.packing"):
        found.notes.append(
            Note("training.packing", "packing alone lets rows see one another there; ours never do")
        )


LLAMAFACTORY = Consumer(
    name="llamafactory",
    title="LLaMA-Factory",
    version="0.9.5",
    form="yaml",
    command="FORCE_TORCHRUN=1 llamafactory-cli train FILE",
    keys=LLAMAFACTORY_KEYS,
    write=_write,
    read=_read,
    special={
        "training.scheduler, final_lr_ratio, decay_ratio": SCHEDULE_WORDS,
        "training.warmup_ratio, warmup_steps": "warmup_steps (below 1 a share)",
        "training.lora": "finetuning_type, lora_alpha, lora_target",
        "deepspeed.zero_stage, offload, config": "deepspeed (the section itself)",
        "deepspeed.precision": "bf16, fp16",
        "data_path": "dataset, dataset_dir (the descriptions themselves)",
        "eval_data": "val_size",
        "objective.evaluations": "eval_strategy, eval_steps",
    },
    remarks=(
        "Its `packing` alone lets rows attend to one another; `neat_packing` does not.",
        "It would make a third of wsd's steps stable by itself: all its parts are said.",
        "Which chat template it uses is its own `template`.",
    ),
)
