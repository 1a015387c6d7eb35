"""The model of a trial: loaded once per process, copied for each trial, saved as a folder."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from sweeper.data import here, load_tokenizer, model_folder, sampled_hash, untrusted
from sweeper.errors import ModelError, first_line
from sweeper.space import Config
from sweeper.training.memory import fits_device, is_cpu
from sweeper.training.model.adapters import with_adapters
from sweeper.training.model.row_check import RowCheck, check_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ModelStore", "save_model_folder"]

Precision = Literal["bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class ModelStore:
    """The untrained models of one process, so that a trial copies memory instead of reading files."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._pristine: dict[tuple[str, Precision], tuple[PreTrainedModel, RowCheck]] = {}

    def row_check(self, config: Config) -> RowCheck:
        """How rows go through the model. Raises what ``fresh`` raises for the model alone."""
        return self._untrained(config)[1]

    def fresh(self, config: Config) -> PreTrainedModel:
        """A model that no trial has touched, on the CPU, with adapters if the trial wants them.

        Every rank calls it at the same time. Raises ModelError when the folder is no causal language
        model, the device cannot compute in the precision, rows cannot be kept apart, or cannot be packed.
        """
        pristine, check = self._untrained(config)
        model = copy.deepcopy(pristine)
        if check.is_padded:
            _require_no_flat_rows(config, check)
        if config.deepspeed.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config.training.lora:
            model = with_adapters(model, config.training.lora, config)
        # What is loaded is ready to answer, without dropout and without gradient checkpointing.
        return cast("PreTrainedModel", model.train())

    def _untrained(self, config: Config) -> tuple[PreTrainedModel, RowCheck]:
        _require_precision(config.deepspeed.precision)
        key = (config.model_path, config.deepspeed.precision)
        if key not in self._pristine:
            model = _load(*key, self._cache_dir, trust_remote_code=config.trust_remote_code)
            self._pristine[key] = (model, _checked(model))
        model, check = self._pristine[key]
        if check.refused:
            raise ModelError.of(
                where="model_path",
                value=config.model_path,
                rule=f"{check.kind} {check.refused}",
                remedy="choose a model of another architecture (docs/architectures.md lists them)",
            )
        return model, check


def _checked(model: PreTrainedModel) -> RowCheck:
    """What rank 0 finds, on every rank. The model gets the attention that it will be trained with."""
    found: list[RowCheck | None] = [None]
    several = dist.is_initialized() and dist.get_world_size() > 1
    if not several or dist.get_rank() == 0:
        # Where a model does not fit, ZeRO-3 shares it out, after this.
        device = get_accelerator().current_device_name() if fits_device(model) else "cpu"
        found[0] = check_rows(model, device)
    if several:
        dist.broadcast_object_list(found)
    (check,) = found
    assert check is not None
    if not check.refused and check.attention != model.config._attn_implementation:
        model.set_attn_implementation(check.attention)
    return check


def _load(
    model_path: str, precision: Precision, cache_dir: Path, *, trust_remote_code: bool
) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    folder = model_folder(model_path)
    if folder.endswith(".gguf"):
        folder = str(_converted_gguf(Path(folder), cache_dir))
    try:
        # Weights of an older kind (pytorch_model.bin) are pickles, of which only tensors are taken.
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=_DTYPES[precision], trust_remote_code=trust_remote_code, weights_only=True
        )
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise untrusted(model_path) from error
        raise ModelError.of(
            where="model_path",
            value=model_path,
            rule=f"cannot be loaded as a causal language model ({first_line(error)})",
            remedy="give a hub id, a folder with config.json and weights, or a .gguf file",
        ) from error
    if folder == here(model_path) != model_path:  # what is saved beside adapters names the model as asked
        model.name_or_path = model.config.name_or_path = model_path
    if type(model.config) not in AutoModelForCausalLM._model_mapping and not hasattr(
        model.config, "auto_map"
    ):
        raise ModelError.of(
            where="model_path",
            value=model_path,
            rule=f"its text part is a {type(model).__name__}, which AutoModelForCausalLM loads as part of "
            "the whole model only: what was trained and saved could not be loaded",
            remedy="choose a model of another architecture",
        )
    return cast("PreTrainedModel", model)


def _require_precision(precision: Precision) -> None:
    """The device's own word: a GPU before Ampere has no bf16, a CPU no fp16 that DeepSpeed trains in."""
    accelerator = get_accelerator()
    able = {"bf16": _has_bf16, "fp16": accelerator.is_fp16_supported}
    if precision in able and not able[precision]():
        others = [name for name in ("bf16", "fp16") if name != precision and able[name]()] + ["fp32"]
        raise ModelError.of(
            where="deepspeed.precision",
            value=precision,
            rule=f"the device ({accelerator.device_name()}) does not compute in {precision}",
            remedy=f"write precision: {others[0]}",
        )


def _has_bf16() -> bool:
    """torch says yes of an older GPU as well, which computes it in a slow detour."""
    emulated = not is_cpu() and not torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(get_accelerator().is_bf16_supported()) and not emulated


def _require_no_flat_rows(config: Config, check: RowCheck) -> None:
    """Packed sequences are rows one after another, and so is what travels through a pipeline."""
    packing, pp = config.training.packing, config.parallel.pp
    for where, is_flat, value, remedy in (
        ("training.packing", packing, "true", "write packing: false"),
        ("parallel.pp", pp > 1, pp, "write pp: 1"),
    ):
        if is_flat:
            raise ModelError.of(
                where=where,
                value=value,
                rule=f"rows of one sequence cannot be kept apart in {config.model_path} ({check.kind}): "
                + "; ".join(check.others or ("its attention is its own",)),
                remedy=remedy,
            )


def _converted_gguf(file: Path, cache_dir: Path) -> Path:
    """A folder with the dequantized weights of a GGUF file; made once, by whichever process comes first.

    transformers refuses to save a model that was read from GGUF, so the weights move into a
    fresh model of the same configuration.
    """
    from filelock import FileLock
    from transformers import AutoModelForCausalLM

    target = cache_dir / f"model-{sampled_hash([file])[:16]}"
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_dir():
            return target
        quantized = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        settings = copy.deepcopy(quantized.config)
        if hasattr(settings, "quantization_config"):
            del settings.quantization_config
        plain = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
        plain.load_state_dict(quantized.state_dict())
        plain.tie_weights()
        plain.generation_config = quantized.generation_config
        save_model_folder(plain, target, model_path=str(file), state_dict=None)
    return target


def save_model_folder(
    model: Any,
    folder: Path,
    *,
    model_path: str,
    state_dict: dict[str, torch.Tensor] | None,
    chat_template: str = "auto",
    trust_remote_code: bool = False,
) -> None:
    """Write model and tokenizer as one folder, whole or not at all.

    Raises FileExistsError when the folder is there and not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(folder)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        model.save_pretrained(draft, state_dict=state_dict)
        tokenizer = load_tokenizer(
            model_path, chat_template=chat_template, trust_remote_code=trust_remote_code
        )
        tokenizer.save_pretrained(draft)
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
