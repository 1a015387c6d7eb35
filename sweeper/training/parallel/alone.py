"""What DeepSpeed does between several ranks, left out where there is one."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepspeed.runtime.utils import clip_grad_norm_

from sweeper.training.memory import is_cpu

__all__ = ["clipped_norm", "leave_out_reduction"]

Weights = list[torch.nn.Parameter]


def leave_out_reduction(engine: Any) -> None:
    """Have a DeepSpeed engine without ZeRO, in fp32 and on one rank, go over its weights once and not four
    times a step, module by module: to collect gradients that nobody adds to, and to forget them."""
    weights = [weight for weight in engine.module.parameters() if weight.requires_grad]
    engine.buffered_allreduce_fallback = lambda **_: _give_each_a_gradient(weights)
    engine.zero_grad = lambda: _forget_gradients(weights)


def _give_each_a_gradient(weights: Weights) -> None:
    """As DeepSpeed does: the optimizer moves a weight that had no part in the loss, too."""
    for weight in weights:
        if weight.grad is None and weight.numel():
            weight.grad = torch.zeros_like(weight)


def _forget_gradients(weights: Weights) -> None:
    for weight in weights:
        weight.grad = None


def clipped_norm(weights: Weights, most: float, mpu: Any) -> torch.Tensor:
    """The norm of the gradient, which is at most ``most`` afterwards; 0 clips nothing.

    On one CPU to the bit what DeepSpeed's function gives, which also asks the other ranks and multiplies each
    gradient by 1 where nothing is to be clipped. A GPU would have to be waited for to know that.
    """
    most = most or math.inf
    if mpu is not None or not is_cpu() or torch.distributed.get_world_size() > 1:
        norm: torch.Tensor = clip_grad_norm_(weights, most, mpu=mpu)
        return norm
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    total = torch.stack(torch._foreach_norm(gradients)).square().sum().sqrt()
    factor = torch.tensor(most) / (total + 1e-6)
    if not factor >= 1:  # NaN goes on into the weights, where it is noticed
        torch._foreach_mul_(gradients, factor.item())
    return total
