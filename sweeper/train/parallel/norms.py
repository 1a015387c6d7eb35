"""The norm of the whole model's gradient before clipping, however the model is spread over the ranks."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepspeed.runtime.utils import clip_grad_norm_

from sweeper.space import Config

__all__ = ["GradientNorm"]


class GradientNorm:
    """Asks DeepSpeed for the norm, and measures it where DeepSpeed does not tell it.

    Without ZeRO and in fp32 DeepSpeed clips without a word, and does not measure at all where nothing
    is clipped. There both are done here, right before the optimizer's step, by DeepSpeed's own function.
    """

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, config: Config) -> None:
        self._engine, self._max_norm = engine, config.training.max_grad_norm or math.inf
        self._measured: torch.Tensor | None = None
        if config.deepspeed.zero_stage == 0 and config.deepspeed.precision == "fp32":
            engine.clip_fp32_gradients = lambda: None
            optimizer.register_step_pre_hook(lambda *_: self._measure_and_clip())

    def _measure_and_clip(self) -> None:
        self._measured = clip_grad_norm_(
            self._engine.module.parameters(), self._max_norm, mpu=self._engine.mpu
        )

    def last(self) -> float | torch.Tensor | None:
        """Of the last optimizer step."""
        if self._measured is not None:
            return self._measured
        norm: float | torch.Tensor | None = self._engine.get_global_grad_norm()
        return norm
