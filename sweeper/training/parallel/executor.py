"""One model on the ranks of a trial, by a DeepSpeed engine, however the model is spread over them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.utils import clip_grad_norm_
from deepspeed.utils import groups
from torch.optim.lr_scheduler import LambdaLR

from sweeper.data import NO_LOSS
from sweeper.space import Config
from sweeper.training.feed import EvaluationFeed, TrainingFeed
from sweeper.training.model.loss import completion_nll
from sweeper.training.parallel.alone import leave_out_reduction
from sweeper.training.parallel.checkpoint_engine import TAG, SafeCheckpoints
from sweeper.training.parallel.ds_config import deepspeed_config
from sweeper.training.parallel.optimizer import adamw, schedule_of

__all__ = ["Executor", "held_out_metrics", "tally"]

_LARGEST_EXPONENT = 700.0
"""exp() of more overflows a double."""


class Executor(ABC):
    """What a trainer needs of the ranks. Every rank makes the same calls, in the same order."""

    def __init__(self, config: Config, module: Any, feed: TrainingFeed, *, mpu: Any = None) -> None:
        """``mpu``: DeepSpeed's word for which ranks share which matrices."""
        self._config, self._feed = config, feed
        self.ds_config = deepspeed_config(config)
        """The DeepSpeed configuration exactly as used."""
        self._optimizer = adamw(module, config.training)
        self._schedule = schedule_of(config.training, feed.steps)
        groups.mpu = None  # of an engine before this one, which DeepSpeed would take up
        # DeepSpeed fills in its own defaults in the dictionary that it is given: hand it a copy.
        self.engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=self._optimizer,
            lr_scheduler=LambdaLR(self._optimizer, self._schedule),
            config=dict(self.ds_config),
            mpu=mpu,
        )
        self._checkpoints = self.engine.checkpoint_engine = SafeCheckpoints()
        self.engine._copy_recovery_script = lambda _: None  # it would lie beside each state
        if config.parallel.dp == 1:
            # Without ZeRO, DeepSpeed copies all gradients into one tensor, adds up those of this rank alone,
            # and copies them back.
            self.engine.allreduce_no_retain = lambda *_, **__: None
        memory = config.deepspeed
        self._scales_loss = memory.precision == "fp16" and memory.zero_stage == 0
        self._norm: torch.Tensor | None = None
        if memory.precision == "fp32" and memory.zero_stage == 0:
            # Here DeepSpeed clips without a word, and does not measure at all where nothing is clipped: both
            # are done right before the optimizer's step, by its own function.
            self.engine.clip_fp32_gradients = lambda: None
            self._optimizer.register_step_pre_hook(lambda *_: self._measure_and_clip())
            if config.parallel.ranks == 1:
                leave_out_reduction(self.engine)

    def _measure_and_clip(self) -> None:
        most = self._config.training.max_grad_norm or math.inf
        self._norm = clip_grad_norm_(self.engine.module.parameters(), most, mpu=self.engine.mpu)

    def _gradient_norm(self) -> float | torch.Tensor | None:
        """Of the whole model in the last optimizer step, before clipping."""
        if self._norm is not None:
            return self._norm
        norm: float | torch.Tensor | None = self.engine.get_global_grad_norm()
        if norm is not None and self._scales_loss:
            norm = norm / self.engine.optimizer.loss_scale  # DeepSpeed tells that of the scaled loss here
        return norm

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss whose gradients are as large as DeepSpeed takes them for: in fp16 without ZeRO its optimizer
        divides them by a scale that its engine, since 0.19, has not multiplied the loss by."""
        if self._scales_loss and loss.requires_grad:
            scale = self.engine.optimizer.loss_scale / self.engine.gradient_accumulation_steps()
            loss.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: torch.full_like(gradient, scale)
            )
        return loss

    def _keep_to_schedule(self, step: int) -> None:
        """Where fp16 has skipped a step, DeepSpeed has not moved the learning rate, which is one of steps."""
        scheduler = self.engine.lr_scheduler
        while scheduler.last_epoch <= step:
            scheduler.step()

    def _loss_factor(self, step: int) -> float:
        """The factor of each micro-batch's summed loss.

        DeepSpeed averages gradients over micro-batches and ranks. By this factor the average is the mean over
        the completion tokens of the whole global batch, however it is split: that is what makes dp and
        accumulation interchangeable.
        """
        split = self._config.training.gradient_accumulation_steps * self._config.parallel.dp
        return split / float(self._feed.completion_tokens[step])

    @abstractmethod
    def optimizer_step(self, step: int) -> tuple[torch.Tensor, float | torch.Tensor | None]:
        """Train on global batch ``step`` of the feed, and move the weights and the schedule once.

        Returns what this rank adds to the summed negative log-likelihood of the global batch, nats, on
        the device (summed over all ranks it is the batch's own), and the norm of the gradient before
        clipping, where DeepSpeed tells it.
        """

    @abstractmethod
    def evaluate(self, feed: EvaluationFeed) -> dict[str, float]:
        """``eval/loss`` and its like, the same on every rank."""

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor] | None:
        """The whole model's weights by their names in transformers; on rank 0 only, None elsewhere."""

    def save_checkpoint(self, folder: Path) -> tuple[int, str]:
        """Weights, optimizer and schedule of every rank into a folder that all ranks share.

        Returns the bytes that this rank's part needs, and why it could not be written: empty where it was.
        """
        self.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)
        return self._checkpoints.settle()

    def load_checkpoint(self, folder: Path) -> None:
        """Take up what ``save_checkpoint`` wrote, to the last bit."""
        self.engine.load_checkpoint(str(folder), tag=TAG)

    def follow_own_schedule(self) -> None:
        """Take the learning rate of the step to come from this run's schedule: the optimizer's state holds
        one, and may be of a run that goes on otherwise."""
        scheduler = self.engine.lr_scheduler
        factor = self._schedule(scheduler.last_epoch)
        for group, base in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
            group["lr"] = base * factor

    def close(self) -> None:
        """Free the model, the optimizer and DeepSpeed's buffers."""
        self.engine.destroy()
        del self.engine, self._optimizer


def tally(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """float64 [3], on the device: summed nll in nats, tokens predicted right, tokens with loss.

    Args:
        logits: [B, K, vocabulary]
        targets: int64 [B, K], NO_LOSS where nothing is predicted.
    """
    nll = completion_nll(logits, targets)
    right = (logits.argmax(dim=-1) == targets).sum()
    return torch.stack([part.double() for part in (nll, right, (targets != NO_LOSS).sum())])


def held_out_metrics(sums: torch.Tensor) -> dict[str, float]:
    """``eval/loss`` (nats per completion token), ``eval/perplexity``, ``eval/token_accuracy``, the same
    on every rank.

    Args:
        sums: this rank's tallies, added; they cross to the host once. All are ratios, so that it does
            not matter where several ranks tally the same rows, as tensor neighbours do.
    """
    if dist.get_world_size() > 1:
        dist.all_reduce(sums)
    nll, right, tokens = sums.tolist()
    loss = nll / tokens
    return {
        "eval/loss": loss,
        "eval/perplexity": math.exp(min(loss, _LARGEST_EXPONENT)) if math.isfinite(loss) else math.nan,
        "eval/token_accuracy": right / tokens,
    }
