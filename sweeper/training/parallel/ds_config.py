"""The DeepSpeed configuration that a closed configuration means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeper.space import Config

__all__ = ["deepspeed_config"]

_OF_THE_SPACE_FILE = ("optimizer", "scheduler")
"""Sections of the user's own that say nothing new, as the space file's loader has seen."""


def deepspeed_config(config: Config) -> dict[str, Any]:
    """What is handed to ``deepspeed.initialize``, and exported as ``ds_config.json``.

    The user's own configuration lies beneath what the space file says; its ``auto`` values are left
    to DeepSpeed's defaults. The optimizer is not in it: torch's fused AdamW is given to DeepSpeed as
    an object, which needs no compiler on the machine and was faster than DeepSpeed's own on CPU.
    """
    own = config.deepspeed.config
    if isinstance(own, str):
        raise TypeError("a loaded configuration holds the content of the DeepSpeed file, not its name")
    own = {key: value for key, value in (own or {}).items() if key not in _OF_THE_SPACE_FILE}
    return _merged({"steps_per_print": None, **_without_auto(own)}, _decided(config))


def _decided(config: Config) -> dict[str, Any]:
    training, memory = config.training, config.deepspeed
    settings = {
        "train_batch_size": training.global_batch_size,
        "train_micro_batch_size_per_gpu": training.per_device_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "gradient_clipping": training.max_grad_norm,
        "zero_optimization": _zero(config),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": memory.precision == "bf16"},
        "fp16": {"enabled": memory.precision == "fp16"},
    }
    if config.parallel.tp > 1:
        # The loss is ours, and wants the whole vocabulary's logits.
        settings["tensor_parallel"] = {"autotp_size": config.parallel.tp, "vocab_parallel_lm_head": False}
    return settings


def _zero(config: Config) -> dict[str, Any]:
    memory = config.deepspeed
    zero: dict[str, Any] = {"stage": memory.zero_stage}
    if memory.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if memory.offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    if memory.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return zero


def _without_auto(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without the values that Hugging Face's Trainer would fill in."""
    return {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if value != "auto"
    }


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees in one; where both have a value, that of ``over``."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
