"""Low-rank adapters: put on a model's linear modules, and merged into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F

from sweeper.errors import ModelError, first_line
from sweeper.space import Config, Lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["merged", "with_adapters"]

_ALL_LINEAR = "all-linear"
_MAMBA_TYPES = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
"""Model types whose kernels take the weight of ``out_proj`` past its module; peft refuses adapters there."""


def with_adapters(model: PreTrainedModel, lora: Lora, config: Config) -> PreTrainedModel:
    """The model with adapters, of which alone the parameters are trained.

    ``all-linear`` leaves out the head, and modules that are linear by name only (routers, for example).

    Raises: ModelError where the targets name no module, or one that cannot have an adapter.
    """
    import peft

    targets = _module_names(lora.targets)
    left_out = _not_linear(model) if targets == _ALL_LINEAR else []
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        exclude_modules=left_out or None,
        task_type="CAUSAL_LM",
    )
    try:
        # The adapters keep the model's own precision: DeepSpeed holds the fp32 master copy.
        wrapped = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)
    except ValueError as error:
        is_missing = "not found in the base model" in str(error)
        raise ModelError.of(
            where="training.lora.targets",
            value=targets,
            rule=f"names no module of {config.model_path}"
            if is_missing
            else f"cannot have adapters in {config.model_path} ({first_line(error)})",
            remedy="write all-linear, or the names of linear modules such as [q_proj, v_proj]",
        ) from error
    if config.deepspeed.gradient_checkpointing:
        wrapped.enable_input_require_grads()
    return cast("PreTrainedModel", wrapped)


def _module_names(targets: str | tuple[str, ...]) -> str | list[str]:
    """``all-linear`` as peft knows it; other texts are names between commas."""
    if targets == _ALL_LINEAR:
        return _ALL_LINEAR
    return [name.strip() for name in targets.split(",")] if isinstance(targets, str) else list(targets)


def _not_linear(model: PreTrainedModel) -> list[str]:
    """Paths of modules that are derived from a linear one and do not compute what it does."""
    is_mamba = model.config.model_type in _MAMBA_TYPES
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (not _is_plain(module) or (is_mamba and name.endswith(".out_proj")))
    ]


@torch.no_grad()
def _is_plain(module: torch.nn.Linear) -> bool:
    if type(module).forward is torch.nn.Linear.forward:
        return True
    given = torch.ones(1, 2, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    try:
        output = module(given)
    except Exception:  # it wants something else than a linear module does
        return False
    expected = F.linear(given, module.weight, module.bias)
    return isinstance(output, torch.Tensor) and output.shape == expected.shape and output.allclose(expected)


def merged(untrained: Any, state_dict: dict[str, torch.Tensor]) -> Any:
    """A plain model with the trained adapters added into its matrices.

    ``untrained`` has adapters as ``with_adapters`` makes them; ``state_dict`` is the trained state.

    Raises: ModelError where modules with adapters of their own share a weight.
    """
    untrained.load_state_dict(state_dict)
    base = untrained.get_base_model()
    _untie_ends(base)
    _require_own_weights(base)
    return untrained.merge_and_unload()


def _untie_ends(model: Any) -> None:
    """Where embedding and output matrix are one weight and an adapter is on one end, they are two from now
    on: what is merged into one would change the other."""
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    if not any(hasattr(end, "base_layer") for end in ends):
        return
    first, last = (getattr(end, "base_layer", end) for end in ends)
    if first.weight is last.weight:
        last.weight = torch.nn.Parameter(last.weight.detach().clone(), last.weight.requires_grad)
        for settings in (model.config, model.config.get_text_config()):
            settings.tie_word_embeddings = False


def _require_own_weights(model: Any) -> None:
    """A class may use one weight in several layers (zamba's shared blocks): each has its own adapter, and
    what is merged for one would be merged for all."""
    users: dict[int, str] = {}
    for name, module in model.named_modules():
        weight = getattr(getattr(module, "base_layer", None), "weight", None)
        if weight is None:
            continue
        if id(weight) in users:
            raise ModelError.of(
                where="--merge-adapter",
                value="",
                rule=f"{users[id(weight)]} and {name} of {type(model).__name__} share one weight and have "
                "adapters of their own, so there is no weight that both could be merged into",
                remedy="leave --merge-adapter out: the command goes on from its last state and saves them",
            )
        users[id(weight)] = name
