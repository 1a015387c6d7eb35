"""The program that trains an exported configuration with TRL, and does what ``trl sft`` cannot."""

from __future__ import annotations

import json

from sweeper.recommend.exports.consumer import Run
from sweeper.recommend.exports.schedules import rising_steps

__all__ = ["script_of"]

_SCRIPT = '''\
"""Trains CONFIG (the exported YAML) with TRL:

    accelerate launch --num_processes {ranks} THIS_FILE CONFIG
    deepspeed --num_gpus {ranks} THIS_FILE CONFIG

Beside what `trl sft --config` does, it draws the learning rates of the sweep, warm-up included, renders rows
of every format by the chat template, and takes held-out rows from their own file.
"""

import math
import sys

from datasets import load_dataset
from torch.optim.lr_scheduler import LambdaLR
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser
from trl import get_dataset, get_peft_config

SCHEDULER, FINAL_RATIO, WARMUP_STEPS, DECAY_RATIO = {scheduler}
EVAL_FILE = {eval_file}  # None: a share of the rows
KIND = {kind}


def multiplier(step, total):
    """Share of the peak learning rate at an optimizer step, from 0."""
    rising = min(WARMUP_STEPS, max(total - 1, 0))
    if step < rising:
        return (step + 1) / (rising + 1)
    start = max(total * (1 - DECAY_RATIO), rising) if SCHEDULER == "wsd" else rising
    done = min(max((step - start) / ((total - start) or 1), 0.0), 1.0)
    if SCHEDULER == "constant":
        return 1.0
    if SCHEDULER == "exponential":
        return FINAL_RATIO**done
    falling = {{
        "linear": 1 - done,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "wsd": 1 - math.sqrt(done),
    }}[SCHEDULER]
    return FINAL_RATIO + (1 - FINAL_RATIO) * falling


class Trainer(SFTTrainer):
    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            chosen = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(chosen, lambda step: multiplier(step, num_training_steps))
        return self.lr_scheduler


def conversation(row):
    """A row of any format as prompt and completion of messages."""
    if KIND in ("messages", "sharegpt"):
        turns = row.get("messages") or [
            {{
                "role": {{"human": "user", "gpt": "assistant"}}.get(turn["from"], turn["from"]),
                "content": turn["value"],
            }}
            for turn in row["conversations"]
        ]
        return {{"prompt": turns[:-1], "completion": turns[-1:]}}
    asked = row.get("prompt") or row.get("question") or row.get("instruction") or ""
    asked += "\\n\\n" + row["input"] if row.get("input") else ""
    answered = row.get("completion") or row.get("answer") or row.get("output") or ""
    if isinstance(asked, list):
        return {{"prompt": asked, "completion": answered}}
    system = [{{"role": "system", "content": row["system"]}}] if row.get("system") else []
    return {{
        "prompt": [*system, {{"role": "user", "content": asked}}],
        "completion": [{{"role": "assistant", "content": answered}}],
    }}


def rendered(rows):
    return rows if KIND == "text" else rows.map(conversation, remove_columns=rows.column_names)


def main():
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv.insert(1, "--config")
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    _, training, model, mixture = parser.parse_args_and_config()
    rows = get_dataset(mixture)
    held_out = rows.get("test")
    if EVAL_FILE is not None:
        held_out = load_dataset("json", data_files=EVAL_FILE, split="train")
        training.eval_strategy, training.eval_steps = "steps", {eval_steps}
    if KIND != "text":
        training.assistant_only_loss, training.completion_only_loss = False, True
    training.model_init_kwargs = {{"dtype": "float32", "trust_remote_code": training.trust_remote_code}}
    trainer = Trainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=rendered(rows["train"]),
        eval_dataset=None if held_out is None else rendered(held_out),
        peft_config=get_peft_config(model),
    )
    trainer.train()
    if held_out is not None:
        print(trainer.evaluate())
    trainer.save_model(training.output_dir)


if __name__ == "__main__":
    main()
'''


def script_of(run: Run) -> str:
    """A program that needs TRL only. Its curve is ``sweeper.space.lr_multiplier``."""
    training, held_out = run.config.training, run.config.eval_data
    schedule = (training.scheduler, training.final_lr_ratio, rising_steps(run), training.decay_ratio)
    return _SCRIPT.format(
        ranks=run.config.parallel.dp,
        scheduler=f"{json.dumps(schedule[0])}, {schedule[1]!r}, {schedule[2]}, {schedule[3]!r}",
        eval_file=repr(held_out) if isinstance(held_out, str) else None,
        eval_steps=round(1 / run.config.objective.evaluations, 6),
        kind=json.dumps(run.fields) if run.fields else None,
    )
