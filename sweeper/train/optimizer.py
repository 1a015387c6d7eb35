"""AdamW as every trial uses it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from sweeper.spec import Training
from sweeper.train.schedules import lr_multiplier

__all__ = ["adamw", "schedule_of"]


def adamw(model: torch.nn.Module, training: Training) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices only (norms and biases are vectors)."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.lr,
        betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_epsilon,
        fused=True,
    )


def schedule_of(training: Training, total_steps: int) -> Callable[[int], float]:
    """The share of the peak learning rate at each optimizer step of one trial."""
    return partial(
        lr_multiplier,
        total_steps=total_steps,
        scheduler=training.scheduler,
        warmup_ratio=training.warmup_ratio,
        decay_ratio=training.decay_ratio,
        final_ratio=training.final_lr_ratio,
    )
