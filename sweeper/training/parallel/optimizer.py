"""AdamW as every trial uses it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from sweeper.space import Training, lr_multiplier

__all__ = ["adamw", "is_decayed", "schedule_of"]

_MATRICES = (torch.nn.Linear, torch.nn.Embedding)
"""Whatever a class derived from them is called."""


def adamw(model: torch.nn.Module, training: Training) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices that are neither norms nor biases."""
    weights = [
        (is_decayed(model, name, weight), weight)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    ]
    groups: list[dict[str, Any]] = [
        {"params": [weight for decays, weight in weights if decays], "weight_decay": training.weight_decay},
        {"params": [weight for decays, weight in weights if not decays], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.lr,
        betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_epsilon,
        fused=True,
    )


def is_decayed(model: torch.nn.Module, name: str, weight: torch.Tensor) -> bool:
    """Whether weight decay pulls this parameter of the model to 0.

    Norms and biases are told by shape, by the class of their module, and by name: a norm of each head has
    a matrix of weights, and so have the biases of experts that are kept as one tensor.
    """
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    names = (own, path.rpartition(".")[2], type(module).__name__)
    is_norm = not isinstance(module, _MATRICES) and any("norm" in one.lower() for one in names)
    shape = getattr(weight, "ds_shape", weight.shape)  # of the whole one, where ZeRO-3 has shared it out
    return len(shape) >= 2 and not is_norm and "bias" not in own


def schedule_of(training: Training, total_steps: int) -> Callable[[int], float]:
    """The fraction of the peak learning rate at each optimizer step of one trial."""
    return partial(
        lr_multiplier,
        total_steps=total_steps,
        scheduler=training.scheduler,
        warmup_ratio=training.warmup_ratio,
        decay_ratio=training.decay_ratio,
        final_ratio=training.final_lr_ratio,
        warmup=training.warmup_steps,
    )
