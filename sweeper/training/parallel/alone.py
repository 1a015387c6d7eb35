"""What DeepSpeed does between several ranks, left out where there is one."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["leave_out_reduction"]

Weights = list[torch.nn.Parameter]


def leave_out_reduction(engine: Any) -> None:
    """Have a DeepSpeed engine without ZeRO, in fp32 and on one rank, go over its weights once and not three
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
