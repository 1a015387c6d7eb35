"""DeepSpeed's own JSON: what the trial was trained with, with its optimizer and schedule written beside
it."""

from __future__ import annotations

from typing import Any

from sweeper.recommend.exports.consumer import Consumer, Found, Key, Note, Part, Run
from sweeper.recommend.exports.memory import read_zero
from sweeper.recommend.exports.schedules import rising_steps

__all__ = ["DEEPSPEED"]

_BETAS = "optimizer.params.betas"
_FIXED = {"torch_adam": True, "adam_w_mode": True}


def _write(run: Run) -> Part:
    from sweeper.training.parallel.ds_config import deepspeed_config

    training = run.config.training
    parameters: dict[str, Any] = {"betas": [training.adam_beta1, training.adam_beta2], **_FIXED}
    schedule, notes = _schedule(run)
    optimizer = {"type": "AdamW", "params": parameters}
    for name in ("epochs", "max_seq_len", "packing", "lora", "seed"):
        if name != "lora" or training.lora:
            notes.append(Note(f"training.{name}", "is not DeepSpeed's: whoever calls it sets it"))
    return deepspeed_config(run.config) | {"optimizer": optimizer} | schedule, notes


def _schedule(run: Run) -> Part:
    """DeepSpeed warms up over 2 steps at least; its cosine is one step ahead of ours after warm-up."""
    training, rising = run.config.training, rising_steps(run)
    name, ratio = training.scheduler, training.final_lr_ratio
    warm: dict[str, Any] = {"warmup_num_steps": max(rising, 2), "warmup_type": "linear"}
    peak = {"warmup_min_lr": 0.0, "warmup_max_lr": training.lr}
    notes = []
    if name == "constant" and not rising:
        return {}, []
    if rising < 2:
        notes.append(Note("training.warmup_steps", f"{rising} steps of warm-up: DeepSpeed has 2 at least"))
    if name == "wsd":
        notes.append(
            Note("training.scheduler", "wsd is not known there; the nearest does not fall at the end")
        )
    if name in ("constant", "wsd") or (ratio == 1 and name != "cosine"):
        return _section("WarmupLR", peak | warm), notes
    warm["total_num_steps"] = run.steps
    if name == "linear":
        if ratio:
            said = f"linear to {ratio:g} of the peak is not known there; the nearest falls to 0"
            notes.append(Note("training.final_lr_ratio", said))
        return _section("WarmupDecayLR", peak | warm), notes
    if name == "cosine":
        notes.append(Note("training.scheduler", "DeepSpeed's cosine is one step ahead after warm-up"))
    else:
        notes.append(Note("training.scheduler", f"{name} is not known there; the nearest is its cosine"))
    return _section("WarmupCosineLR", warm | {"cos_min_ratio": ratio}), notes


def _section(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"scheduler": {"type": name, "params": parameters}}


def _read(found: Found) -> None:
    tree, values = found.tree, found.values
    _read_optimizer(found, tree.pop("optimizer", None))
    _read_schedule(found, tree.pop("scheduler", None))
    switches = {name: tree.pop(name) for name in ("bf16", "bfloat16", "fp16") if name in tree}
    enabled = {name: one.get("enabled") for name, one in switches.items() if isinstance(one, dict)}
    if enabled and "auto" not in enabled.values():
        chosen = [name for name, wanted in enabled.items() if wanted is True]
        values["deepspeed.precision"] = chosen[0].replace("bfloat16", "bf16") if chosen else "fp32"
    tensor = tree.get("tensor_parallel")
    if isinstance(tensor, dict) and "autotp_size" in tensor:
        values["parallel.tp"] = tree.pop("tensor_parallel")["autotp_size"]
    sizes = ("training.global_batch_size", "training.per_device_batch_size")
    batch, rows = (values.get(one) for one in sizes)
    passes = values.get("training.gradient_accumulation_steps")
    if batch and rows and passes and batch % (rows * passes) == 0 and batch != rows * passes:
        values["parallel.dp"] = batch // (rows * passes)
    rest = {key: tree.pop(key) for key in list(tree)}
    read_zero(found, rest, "ds_config")


def _read_optimizer(found: Found, section: Any) -> None:
    if not isinstance(section, dict):
        return
    if str(section.get("type", "AdamW")).lower() not in ("adam", "adamw"):
        found.notes.append(Note("training.lr", f"optimizer {section['type']}: sweeper trains with AdamW"))
    parameters = dict(section.get("params") or {})
    betas = parameters.pop("betas", "auto")
    if isinstance(betas, list) and len(betas) == 2:
        found.values["training.adam_beta1"], found.values["training.adam_beta2"] = betas
    found.tree |= {
        f"optimizer.params.{key}": one for key, one in parameters.items() if _FIXED.get(key) != one
    }


_SCHEDULES = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}


def _read_schedule(found: Found, section: Any) -> None:
    if not isinstance(section, dict):
        return
    name, parameters = section.get("type"), dict(section.get("params") or {})
    if name not in _SCHEDULES:
        found.notes.append(Note("training.scheduler", f"{name} is none of ours; nothing is said instead"))
        return
    found.values["training.scheduler"] = _SCHEDULES[name]
    if (steps := parameters.pop("warmup_num_steps", "auto")) != "auto":
        found.values["training.warmup_steps"] = steps
    if name == "WarmupCosineLR":
        found.values["training.final_lr_ratio"] = parameters.pop("cos_min_ratio", 0.0001)
    elif name == "WarmupDecayLR":
        found.values["training.final_lr_ratio"] = 0.0
    if (peak := parameters.pop("warmup_max_lr", "auto")) != "auto":
        found.values["training.lr"] = peak
    known = {"warmup_min_lr": 0.0, "warmup_type": "linear", "total_num_steps": None, "warmup_min_ratio": 0.0}
    for key, value in parameters.items():
        if value != "auto" and (key not in known or known[key] not in (None, value)):
            found.notes.append(Note("training.scheduler", f"scheduler.params.{key}: {value} is not read"))


DEEPSPEED = Consumer(
    name="deepspeed",
    title="DeepSpeed",
    version="0.19.8",
    form="json",
    command="deepspeed.initialize(config=FILE, ...)",
    keys=(
        Key("training.global_batch_size", "train_batch_size"),
        Key("training.per_device_batch_size", "train_micro_batch_size_per_gpu"),
        Key("training.gradient_accumulation_steps", "gradient_accumulation_steps"),
        Key("training.max_grad_norm", "gradient_clipping"),
        Key("training.lr", "optimizer.params.lr"),
        Key("training.weight_decay", "optimizer.params.weight_decay"),
        Key("training.adam_epsilon", "optimizer.params.eps"),
    ),
    write=_write,
    read=_read,
    special={
        "training.adam_beta1, adam_beta2": _BETAS,
        "training.scheduler": "scheduler.type: WarmupLR, WarmupDecayLR, WarmupCosineLR",
        "training.warmup_ratio, warmup_steps": "scheduler.params.warmup_num_steps",
        "training.final_lr_ratio": "scheduler.params.cos_min_ratio",
        "deepspeed.zero_stage": "zero_optimization.stage",
        "deepspeed.offload": "zero_optimization.offload_optimizer, offload_param",
        "deepspeed.precision": "bf16.enabled, fp16.enabled",
        "deepspeed.config": "every other key",
        "parallel.tp": "tensor_parallel.autotp_size",
    },
    remarks=(
        "It is what the trial was trained with, with the optimizer and the schedule that sweeper gives to "
        "DeepSpeed as objects written beside it.",
        "DeepSpeed has neither exponential nor wsd, and its linear falls to 0; its cosine is one step "
        "ahead of ours, and its warm-up takes 2 steps at least.",
        "JSON has no comments: what is not said there is said on screen only.",
    ),
)
