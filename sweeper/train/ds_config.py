"""The DeepSpeed configuration that a closed configuration means."""

from __future__ import annotations

from typing import Any

from sweeper.spec import Config

__all__ = ["deepspeed_config"]


def deepspeed_config(config: Config) -> dict[str, Any]:
    """What is handed to ``deepspeed.initialize``, and exported as ``ds_config.json``.

    The optimizer is not in it: torch's fused AdamW is given to DeepSpeed as an object, which
    needs no compiler on the machine and was faster than DeepSpeed's own on CPU.
    """
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
        "steps_per_print": None,
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
