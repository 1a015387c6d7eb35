"""The model of a trial: loaded once per process, copied for each trial, saved as a folder."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from deepspeed.accelerator import get_accelerator

from sweeper.data import load_tokenizer, model_folder, sampled_hash, untrusted
from sweeper.errors import ModelError
from sweeper.spec import Config, Lora
from sweeper.train.attention import implementation_for, layout_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ModelStore", "merged", "save_model_folder"]

Precision = Literal["bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class ModelStore:
    """The untrained models of one process, so that a trial copies memory instead of reading files."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._pristine: dict[tuple[str, Precision], PreTrainedModel] = {}

    def fresh(self, config: Config) -> PreTrainedModel:
        """A model that no trial has touched, on the CPU, with adapters if the trial wants them.

        Raises ModelError when the folder is no causal language model, the device cannot compute in the
        precision, or rows cannot be packed.
        """
        _require_precision(config.deepspeed.precision)
        key = (config.model_path, config.deepspeed.precision)
        if key not in self._pristine:
            self._pristine[key] = _load(*key, self._cache_dir, trust_remote_code=config.trust_remote_code)
        model = copy.deepcopy(self._pristine[key])
        if config.training.packing and layout_of(model) == "padded":
            raise _unpackable(config)
        if config.deepspeed.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config.training.lora:
            model = _with_adapters(model, config.training.lora, config)
        # What is loaded is ready to answer, without dropout and without gradient checkpointing.
        return cast("PreTrainedModel", model.train())


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
            rule=f"cannot be loaded as a causal language model ({error})",
            remedy="give a hub id, a folder with config.json and weights, or a .gguf file",
        ) from error
    if model._supports_attention_backend:
        device_type = get_accelerator().device_name()
        model.set_attn_implementation(implementation_for(_DTYPES[precision], device_type))
    model.config.use_cache = False  # keys and values are only kept for generation
    return cast("PreTrainedModel", model)


def _require_precision(precision: Precision) -> None:
    """The device's own word: a GPU before Ampere has no bf16, a CPU no fp16 that DeepSpeed trains in."""
    accelerator = get_accelerator()
    able = {"bf16": accelerator.is_bf16_supported, "fp16": accelerator.is_fp16_supported}
    if precision in able and not able[precision]():
        others = [name for name in ("bf16", "fp16") if name != precision and able[name]()] + ["fp32"]
        raise ModelError.of(
            where="deepspeed.precision",
            value=precision,
            rule=f"the device ({accelerator.device_name()}) does not compute in {precision}",
            remedy=f"write precision: {others[0]}",
        )


def _unpackable(config: Config) -> ModelError:
    error = ModelError.of(
        where="training.packing",
        value="true",
        rule=f"rows of one sequence cannot be kept apart in {config.model_path}: its layers are not all "
        "attention that takes the rows' boundaries",
        remedy="write packing: false",
    )
    assert isinstance(error, ModelError)
    return error


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


def _with_adapters(model: PreTrainedModel, lora: Lora, config: Config) -> PreTrainedModel:
    import peft

    targets = _module_names(lora.targets)
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        # The adapters keep the model's own precision: DeepSpeed holds the fp32 master copy.
        wrapped = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)
    except ValueError as error:
        raise ModelError.of(
            where="training.lora.targets",
            value=targets,
            rule=f"names no module of {config.model_path}",
            remedy="write all-linear, or the names of linear modules such as [q_proj, v_proj]",
        ) from error
    if config.deepspeed.gradient_checkpointing:
        wrapped.enable_input_require_grads()
    return cast("PreTrainedModel", wrapped)


def _module_names(targets: str | tuple[str, ...]) -> str | list[str]:
    """``all-linear`` as peft knows it; other texts are names between commas."""
    if targets == "all-linear":
        return "all-linear"
    return [name.strip() for name in targets.split(",")] if isinstance(targets, str) else list(targets)


def merged(untrained: Any, state_dict: dict[str, torch.Tensor]) -> Any:
    """A plain model with the trained adapters added into its matrices.

    ``untrained`` has adapters as ``ModelStore.fresh`` makes them; ``state_dict`` is the trained state.
    """
    untrained.load_state_dict(state_dict)
    return untrained.merge_and_unload()


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
        if state_dict is None:
            model.save_pretrained(draft)
        else:
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
