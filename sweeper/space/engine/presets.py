"""Trainers whose command, places and names are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sweeper.space.engine.keys import (
    AXOLOTL_KEYS,
    LLAMAFACTORY_KEYS,
    OPENRLHF_KEYS,
    TRL_KEYS,
    Key,
)
from sweeper.space.engine.section import Engine, PresetName

__all__ = ["PRESETS", "Preset", "key_of"]


def _schedule(name: str) -> str:
    """transformers' ``constant`` leaves warm-up out in silence."""
    return "constant_with_warmup" if name == "constant" else name


def _our_schedule(name: str) -> str:
    return "constant" if name == "constant_with_warmup" else name


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What ``engine: {trl: {}}`` stands for."""

    command: str
    metrics: Mapping[str, Any]
    resume: Mapping[str, Any]
    keys: tuple[Key, ...]
    values: Mapping[str, Any]
    """Keys that a trial needs: where it writes."""
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What the trainer takes where its file does not say: how it splits a batch."""
    model: str = "{out}"


_HF_RESUME = {
    "state": "{out}/checkpoint-*/trainer_state.json",  # of the last that is written into one
    "key": "resume_from_checkpoint",
    "value": "{folder}",
}
_HF_BATCH = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
_HF_SCHEDULE = Key("training.scheduler", "lr_scheduler_type", _schedule, _our_schedule)

PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "openrlhf": Preset(
            command="deepspeed --num_gpus {dp} --master_port {port} --module openrlhf.cli.train_sft {flags}",
            metrics={
                "tensorboard": "{out}/runs",
                "names": {"eval/loss": "eval/eval gpt_loss", "train/loss": "train/loss_mean"},
            },
            resume={"state": "{out}/states/global_step*", "key": "ckpt.load_enable", "value": True},
            keys=(*OPENRLHF_KEYS, Key("training.scheduler", "lr_scheduler", _schedule, _our_schedule)),
            values={
                "ckpt.output_dir": "{out}/model",
                "ckpt.path": "{out}/states",
                "logger.tensorboard_dir": "{out}/runs",
                "logger.wandb.run_name": "trial",
            },
            defaults={"train.batch_size": 128, "train.micro_batch_size": 8},
            model="{out}/model",
        ),
        "trl": Preset(
            command="accelerate launch --num_processes {dp} --main_process_port {port} "
            "-m trl.scripts.sft --config {config}",
            metrics={"hf": "{out}"},
            resume=_HF_RESUME,
            keys=(*TRL_KEYS, _HF_SCHEDULE),
            values={"output_dir": "{out}"},
            defaults=_HF_BATCH,
        ),
        "llamafactory": Preset(
            command="FORCE_TORCHRUN=1 NPROC_PER_NODE={dp} MASTER_PORT={port} llamafactory-cli train {config}",
            metrics={"hf": "{out}"},
            resume=_HF_RESUME,
            keys=(*LLAMAFACTORY_KEYS, _HF_SCHEDULE),
            values={"output_dir": "{out}"},
            defaults=_HF_BATCH,
        ),
        "axolotl": Preset(
            command="axolotl train {config} --num-processes {dp} --main-process-port {port}",
            metrics={"hf": "{out}"},
            resume=_HF_RESUME,
            keys=(*AXOLOTL_KEYS, Key("training.scheduler", "lr_scheduler", _schedule, _our_schedule)),
            values={"output_dir": "{out}"},
            defaults={"micro_batch_size": 1, "gradient_accumulation_steps": 1},
        ),
    }
)


def key_of(engine: Engine, path: str) -> Key:
    """What the trainer calls a field of ours, and how it writes its values."""
    theirs = engine.names[path]
    known = PRESETS[engine.preset].keys if engine.preset else ()
    return next((one for one in known if (one.ours, one.theirs) == (path, theirs)), Key(path, theirs))
