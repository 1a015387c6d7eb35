"""ms-swift's command line."""

from __future__ import annotations

import json
from typing import Any

from sweeper.recommend.exports.consumer import Consumer, Key, Note, Part, Run
from sweeper.recommend.exports.memory import gpus_note, precision_part, trainer_section
from sweeper.recommend.exports.schedules import SCHEDULE_WORDS, hf_schedule, warmup_value
from sweeper.recommend.exports.shared import (
    BATCH_KEYS,
    TRAINER_KEYS,
    evaluation_part,
    joined,
    lora_part,
    source_files,
)

__all__ = ["MS_SWIFT"]

_COLUMNS = {
    "prompt_completion": {"prompt": "query", "completion": "response"},
    "question_answer": {"question": "query", "answer": "response"},
}


def _write(run: Run) -> Part:
    config = run.config
    rows, notes = source_files(run)
    notes.append(
        Note("model_path", "where several of its types fit, it asks for --model_type and --template")
    )
    said: dict[str, Any] = {
        "dataset": rows["files"],
        "tuner_type": "lora" if config.training.lora else "full",
        "truncation_strategy": "right" if config.training.overlong == "truncate" else "delete",
        "warmup_steps": warmup_value(run),
        **precision_part(run),
        "torch_dtype": {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[config.deepspeed.precision],
        "deepspeed": json.dumps(trainer_section(run)),
        "use_cpu": config.resources.gpus_per_rank == 0,
        "loss_scale": "default",
        "output_dir": f"{config.name}-ms-swift",
    }
    if run.fields in _COLUMNS:
        said["columns"] = json.dumps(_COLUMNS[run.fields])
    if run.fields is None:
        notes.append(Note("data_format", "it recognises the columns of rows itself"))
    if config.training.packing:
        said["attn_impl"] = "flash_attn"
        notes.append(
            Note("training.packing", "only FlashAttention keeps rows apart there: install flash-attn")
        )
    schedule, about = hf_schedule(run)
    if arguments := schedule.get("lr_scheduler_kwargs"):
        schedule["lr_scheduler_kwargs"] = json.dumps(arguments)
    held_out: Part = ({"val_dataset": config.eval_data, "split_dataset_ratio": 0}, [])
    if not isinstance(config.eval_data, str):
        held_out = evaluation_part(run, split_key="split_dataset_ratio")
    lora = lora_part(run, "target_modules", ["all-linear"], whole_alpha=False)
    return joined((said, notes), (schedule, about), lora, held_out, gpus_note(run))


MS_SWIFT = Consumer(
    name="ms-swift",
    title="ms-swift",
    version="4.6.0",
    form="command",
    command="swift sft",
    keys=(
        Key("model_path", "model"),
        *TRAINER_KEYS,
        *BATCH_KEYS,
        Key("training.max_seq_len", "max_length"),
        Key("training.packing", "packing"),
        Key("training.lora.rank", "lora_rank"),
        Key("training.lora.dropout", "lora_dropout"),
        Key("deepspeed.gradient_checkpointing", "gradient_checkpointing"),
    ),
    write=_write,
    special={
        "training.scheduler, final_lr_ratio, decay_ratio": SCHEDULE_WORDS,
        "training.warmup_ratio, warmup_steps": "--warmup_steps (below 1 a share)",
        "training.lora": "--tuner_type, --lora_alpha, --target_modules",
        "training.overlong": "--truncation_strategy",
        "deepspeed.zero_stage, offload, config": "--deepspeed (the section itself)",
        "deepspeed.precision": "--bf16, --fp16, --torch_dtype",
        "data_path": "--dataset, --columns",
        "eval_data": "--split_dataset_ratio, --val_dataset",
        "objective.evaluations": "--eval_strategy, --eval_steps",
    },
    remarks=(
        "Its own defaults are a weight decay of 0.1, a beta2 of 0.95 and a dropout of 0.05 in adapters: "
        "ours are always said.",
        "Packed rows are kept apart by FlashAttention alone (--attn_impl flash_attn), a package of its own.",
        "There is no import.",
    ),
)
