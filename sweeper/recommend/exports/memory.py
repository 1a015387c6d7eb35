"""ZeRO, offload and precision as a section for Hugging Face's Trainer, which fills in ``auto``; and back."""

from __future__ import annotations

from typing import Any

from sweeper.recommend.exports.consumer import Found, Note, Part, Run

__all__ = ["gpus_note", "precision_part", "read_precision", "read_zero", "trainer_section"]

_AUTO = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)
_OURS = ("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "steps_per_print")
_GATHER = "stage3_gather_16bit_weights_on_model_save"


def trainer_section(run: Run) -> dict[str, Any]:
    """For the key ``deepspeed`` of ``TrainingArguments``; the user's own configuration lies beneath."""
    from sweeper.training.parallel.ds_config import deepspeed_config

    ours = deepspeed_config(run.config)
    for key in ("steps_per_print", "tensor_parallel"):
        ours.pop(key, None)
    return ours | dict.fromkeys(_AUTO, "auto") | {"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}


def read_zero(found: Found, section: Any, where: str) -> None:
    """Stage and offload of a DeepSpeed section; what else it says goes into ``deepspeed.config``."""
    if not isinstance(section, dict):
        said = f"{where}: {section} is a file; its stage and offload are not read: import it by itself"
        found.notes.append(Note("deepspeed.config", said))
        return
    section = {key: value for key, value in section.items() if key not in (*_AUTO, *_OURS, "bf16", "fp16")}
    zero = section.pop("zero_optimization", None)
    if isinstance(zero, dict):
        zero = {key: value for key, value in zero.items() if key != _GATHER}
        if "stage" in zero:
            found.values["deepspeed.zero_stage"] = zero.pop("stage")
        moved = {key: _device(zero, key) for key in ("offload_param", "offload_optimizer")}
        if any(one not in (None, "none", "cpu") for one in moved.values()):
            found.notes.append(
                Note("deepspeed.offload", f"{where}: to another place than cpu is none of ours")
            )
        whole, optimizer = (moved[key] == "cpu" for key in ("offload_param", "offload_optimizer"))
        found.values["deepspeed.offload"] = "all" if whole else "optimizer" if optimizer else "none"
        section |= {"zero_optimization": zero} if zero else {}
    if section:
        found.values["deepspeed.config"] = section


def _device(zero: dict[str, Any], key: str) -> Any:
    """Where it goes; a section that says more than the device keeps the rest."""
    section = zero.pop(key, None)
    if not isinstance(section, dict):
        return None
    device = section.get("device")
    if rest := {name: value for name, value in section.items() if name != "device"}:
        zero[key] = rest
    return device


def precision_part(run: Run) -> dict[str, bool]:
    """Both switches, since trainers differ in what they take when neither is said."""
    precision = run.config.deepspeed.precision
    return {"bf16": precision == "bf16", "fp16": precision == "fp16"}


def read_precision(found: Found) -> None:
    said = {name: found.tree.pop(name) for name in ("bf16", "fp16") if name in found.tree}
    chosen = [name for name, wanted in said.items() if wanted is True]
    if said and "auto" not in said.values():
        found.values["deepspeed.precision"] = chosen[0] if chosen else "fp32"


def gpus_note(run: Run) -> Part:
    """What a pipeline or tensor parallelism has no word for there."""
    parallel, notes = run.config.parallel, list[Note]()
    for name, ways in (("pp", parallel.pp), ("tp", parallel.tp)):
        if ways > 1:
            said = f"{ways} is not known there: each GPU has the whole model, or its share by ZeRO 3"
            notes.append(Note(f"parallel.{name}", said))
    return {}, notes
