"""Each rank has a run of the model's layers: pipeline parallelism, with data parallelism beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.pipe import PipelineModule

from sweeper.space import Config
from sweeper.training.feed import EvaluationFeed, TrainingFeed
from sweeper.training.model.loss import DeviceBatch, completion_nll
from sweeper.training.parallel.executor import Executor, held_out_metrics, tally
from sweeper.training.parallel.stages import Decoder, stage_layers

__all__ = ["Pipeline"]

Labels = tuple[torch.Tensor, torch.Tensor]
"""Targets as in DeviceBatch, and the factor of the micro-batch's loss; 0 where it does not count."""
Micro = tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], Labels]


class Pipeline(Executor):
    """DeepSpeed's pipeline engine over the model's layers.

    ``model`` stays on the CPU and keeps the weights of this rank's layers only; on every other it
    keeps their names and shapes.
    """

    def __init__(self, config: Config, model: torch.nn.Module, feed: TrainingFeed) -> None:
        self._model, self._loss = model, _TalliedLoss()
        module = PipelineModule(
            layers=stage_layers(model, config, feed.layout),
            num_stages=config.parallel.pp,
            loss_fn=self._loss,
            partition_method=f"type:{Decoder.__name__}",  # a stage without one would have nothing to train
            dynamic_shape=True,
        )
        _count_once_in_norms(module)
        self._forget_other_stages(module)
        super().__init__(config, module, feed)
        self._loss.scaled = self._scaled

    def optimizer_step(self, step: int) -> tuple[torch.Tensor, float | torch.Tensor | None]:
        """The last stages add the loss."""
        factor = self._loss_factor(step)
        self._loss.start(self.engine.device)
        self.engine.train_batch(_micro(batch, factor) for batch in self._feed.micro_batches(step))
        self._keep_to_schedule(step)
        return self._loss.sums[0], self._gradient_norm()

    def evaluate(self, feed: EvaluationFeed) -> dict[str, float]:
        self._loss.start(self.engine.device, evaluating=True)
        batches = (_micro(batch, float(counts)) for batch, counts in feed.batches)
        self.engine.eval_batch(batches, num_micro_batches=len(feed.batches), bcast_loss=False)
        return held_out_metrics(self._loss.sums)

    def state_dict(self) -> dict[str, torch.Tensor] | None:
        """Each weight comes from the first rank that has it; one is on its way at a time."""
        rank, state = dist.get_rank(), {}
        weights = self._model.state_dict(keep_vars=True)
        mine = [name for name, weight in weights.items() if not weight.is_meta]
        everyones: list[list[str]] = [[]] * dist.get_world_size()
        dist.all_gather_object(everyones, mine)
        for name, weight in weights.items():
            owner = next(other for other, names in enumerate(everyones) if name in names)
            if owner == rank != 0:
                dist.send(weight.detach(), 0)
            elif rank == 0:
                received = weight.detach()
                if owner != 0:
                    received = torch.empty_like(weight, device=self.engine.device, requires_grad=False)
                    dist.recv(received, owner)
                state[name] = received.cpu()
        return state if rank == 0 else None

    def close(self) -> None:
        module = self.engine.module
        super().close()
        _destroy_groups(module)

    def _forget_other_stages(self, module: torch.nn.Module) -> None:
        """Free the weights that lie on other ranks."""
        here = {id(parameter) for parameter in module.parameters()}
        for part in self._model.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                if id(parameter) not in here:
                    setattr(part, name, torch.nn.Parameter(parameter.to("meta"), parameter.requires_grad))


class _TalliedLoss:
    """The loss function of the last stage: what DeepSpeed averages, and sums for the reports."""

    scaled: Callable[[torch.Tensor], torch.Tensor]
    """Of the executor."""
    sums: torch.Tensor
    """float64 [3] as in ``tally`` when evaluating, else float32 [1]: nll; zeros before the last stage."""

    def start(self, device: torch.device, *, evaluating: bool = False) -> None:
        self._evaluating = evaluating
        dtype = torch.float64 if evaluating else torch.float32
        self.sums = torch.zeros(3 if evaluating else 1, dtype=dtype, device=device)

    def __call__(self, logits: torch.Tensor, labels: Labels) -> torch.Tensor:
        targets, factor = labels
        nll = completion_nll(logits, targets)
        self.sums += tally(logits, targets) * factor if self._evaluating else nll.detach()
        return self.scaled(nll * factor)


def _micro(batch: DeviceBatch, factor: float) -> Micro:
    inputs = (batch.input_ids, batch.position_ids, batch.predicting)
    return inputs, (batch.targets, torch.tensor(factor, device=batch.targets.device))


def _count_once_in_norms(module: torch.nn.Module) -> None:
    """DeepSpeed's norms take a parameter without this mark for a copy of the first stage's own."""
    for parameter in module.parameters():
        parameter.model_parallel = not parameter.ds_pipe_replicated  # type: ignore[attr-defined]


def _destroy_groups(module: Any) -> None:
    """The process groups that each PipelineModule makes anew: a warm worker would pile them up."""
    grid = module.mpu()
    groups = [
        module.world_group,
        grid.ds_model_proc_group,
        grid.dp_proc_group,
        grid.pp_proc_group,
        grid.slice_proc_group,
        *(tied["group"] for tied in module.tied_comms.values()),
    ]
    for group in groups:
        dist.destroy_process_group(group)
