"""Every rank has the whole model, or its part of each matrix: data and tensor parallelism."""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
import torch.nn.functional as F
from deepspeed.utils import groups

from sweeper.errors import ModelError
from sweeper.space import Config
from sweeper.training.feed import EvaluationFeed, TrainingFeed
from sweeper.training.memory import fits_device
from sweeper.training.model.loss import completion_logits, completion_nll
from sweeper.training.parallel.ds_config import deepspeed_config
from sweeper.training.parallel.executor import Executor, held_out_metrics, tally

__all__ = ["Replicas"]


class Replicas(Executor):
    """A DeepSpeed engine over the model, which comes from the CPU to the rank's device: as a whole, or with
    ZeRO-3, where that does not fit on one, weight by weight, each rank its part.

    Raises: ModelError where tp is above 1 and the model's matrices cannot be shared out so.
    """

    def __init__(self, config: Config, model: Any, feed: TrainingFeed) -> None:
        if config.parallel.tp > 1:
            _require_divisible(model.config, config)
        if config.deepspeed.zero_stage == 3 and not _fits_everywhere(model, feed.device):
            deepspeed.zero.Init(module=model, config_dict_or_path=deepspeed_config(config))
        else:
            model.to(feed.device)
        super().__init__(config, model, feed, mpu=_tensor_groups(config.parallel.tp))
        if config.deepspeed.zero_stage == 0:
            # In half precision without ZeRO, DeepSpeed has taken a step with gradients of zero by now, after
            # which Adam would correct its first real steps too little.
            self._optimizer.state.clear()

    def optimizer_step(self, step: int) -> tuple[torch.Tensor, float | torch.Tensor | None]:
        """Tensor neighbours have the same loss; the first of them adds it."""
        factor = self._loss_factor(step)
        summed = torch.zeros((), device=self.engine.device)
        for batch in self._feed.micro_batches(step):
            nll = completion_nll(completion_logits(self.engine, batch), batch.targets)
            _require_gradient(nll, self._config)
            summed += nll.detach()
            self.engine.backward(self._scaled(nll * factor))
            self.engine.step()
        self._keep_to_schedule(step)
        first_of_neighbours = dist.get_rank() % self._config.parallel.tp == 0
        return summed * first_of_neighbours, self._gradient_norm()

    @torch.no_grad()
    def evaluate(self, feed: EvaluationFeed) -> dict[str, float]:
        self.engine.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.engine.device)
        for batch, counts in feed.batches:
            logits = completion_logits(self.engine, batch)
            if counts:
                sums += tally(logits, batch.targets)
        self.engine.train()
        return held_out_metrics(sums)

    def state_dict(self) -> dict[str, torch.Tensor] | None:
        if self._config.deepspeed.zero_stage == 3 or self._config.parallel.tp > 1:
            state: dict[str, torch.Tensor] | None = self.engine._consolidated_16bit_state_dict()
            return state
        return self.engine.module.state_dict() if dist.get_rank() == 0 else None

    def close(self) -> None:
        super().close()
        if self._config.deepspeed.zero_stage == 3:
            _forget_partitions()


def _fits_everywhere(model: Any, device: torch.device | str) -> bool:
    """On each rank: all go the same way."""
    fits = torch.tensor([float(fits_device(model))], device=device)
    if dist.get_world_size() > 1:
        dist.all_reduce(fits, op=dist.ReduceOp.MIN)
    return fits.item() > 0


def _forget_partitions() -> None:
    """ZeRO-3 leaves behind what belongs to no engine: models in a cache around a method and in the stack of
    modules at work; and, in the place of torch's, a linear layer of its own for partitioned weights, which
    keeps inputs that frozen weights have no need of."""
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partition_parameters import InsertPostInitMethodToModuleSubClasses
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    for method in vars(PartitionedParameterCoordinator).values():
        if inspect.isfunction(method):
            for wrapped in inspect.getclosurevars(method).nonlocals.values():
                getattr(wrapped, "cache_clear", int)()
    parameter_offload.FWD_MODULE_STACK.clear()
    F.linear = getattr(InsertPostInitMethodToModuleSubClasses, "linear_bk", F.linear)


def _require_divisible(model: Any, config: Config) -> None:
    """A rank has whole attention heads, and DeepSpeed knows which matrices to cut from a plan that
    transformers has for each architecture; without one it would guess."""
    tp = config.parallel.tp
    heads, shared = model.num_attention_heads, getattr(model, "num_key_value_heads", None)
    if not getattr(model, "base_model_tp_plan", None):
        rule = f"{config.model_path} is of the architecture {model.model_type}, for which transformers has "
        rule += "no plan of what tensor parallelism cuts"
        remedy = "write tp: 1, and share a large model out with zero_stage: 3 and dp"
    elif heads % tp or (shared or heads) % tp:
        rule = f"{config.model_path} has {heads} attention heads and {shared or heads} for keys and values, "
        rule += "which tp divides"
        remedy = f"write tp: {math.gcd(heads, shared or heads)} or a divisor of it"
    else:
        return
    raise ModelError.of(where="parallel.tp", value=tp, rule=rule, remedy=remedy)


def _require_gradient(loss: torch.Tensor, config: Config) -> None:
    """A class that computes its layers anew on the way back asks for gradients at its first one."""
    if not loss.requires_grad:
        raise ModelError.of(
            where="training.lora.targets",
            value=config.training.lora and config.training.lora.targets,
            rule=f"the loss of {config.model_path} depends on none of the adapters",
            remedy="leave training.lora out, and train the whole model",
        )


def _tensor_groups(tp: int) -> Any:
    """Who shares which matrices with whom; DeepSpeed would make it itself, but only after it has
    checked the batch arithmetic as if every rank were a replica. It makes groups of one size only, and
    they last as long as the process."""
    if tp == 1:
        return None
    data, tensor = _mesh(tp)
    groups._DATA_PARALLEL_GROUP = data
    groups._MODEL_PARALLEL_GROUP = groups._TENSOR_MODEL_PARALLEL_GROUP = tensor
    return groups


@cache
def _mesh(tp: int) -> tuple[Any, Any]:
    """The groups of data and of tensor parallelism that this rank is in, made once in a process."""
    groups._TENSOR_MODEL_PARALLEL_GROUP = None
    groups._init_tp_mesh_device(tp)
    return groups._DATA_PARALLEL_GROUP, groups._TENSOR_MODEL_PARALLEL_GROUP
