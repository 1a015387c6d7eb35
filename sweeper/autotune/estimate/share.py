"""What one rank has of a model: elements, by the way that a trial is spread over its ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sweeper.space import Config, ModelSizes

__all__ = ["GIB", "Share", "trainable_parameters"]

GIB = 2**30
_WIDTHS = {"fp32": 4, "bf16": 2, "fp16": 2}
_DEFAULTS = {
    "reduce_bucket_size": 500_000_000,
    "stage3_max_live_parameters": 1_000_000_000,
    "stage3_prefetch_bucket_size": 50_000_000,
}
"""DeepSpeed's own, in elements (deepspeed/runtime/zero/config.py)."""


def trainable_parameters(config: Config, sizes: ModelSizes) -> int:
    """All, or those of the adapters: rank x (inputs + outputs) of each adapted matrix."""
    lora = config.training.lora
    if not lora:
        return sizes.parameters
    return lora.rank * sum(n for name, n in sizes.linear.items() if name in adapted_modules(config, sizes))


def adapted_modules(config: Config, sizes: ModelSizes) -> frozenset[str]:
    """Names of the linear modules that have adapters."""
    lora = config.training.lora
    if not lora:
        return frozenset()
    wanted = lora.targets.split(",") if isinstance(lora.targets, str) else lora.targets
    names = {name.strip() for name in wanted}
    return frozenset(sizes.linear) if names == {"all-linear"} else frozenset(sizes.linear) & names


@dataclass(frozen=True)
class Share:
    """Counts of elements, if nothing else is said."""

    config: Config
    sizes: ModelSizes

    @property
    def stage(self) -> int:
        return self.config.deepspeed.zero_stage

    @property
    def dp(self) -> int:
        return self.config.parallel.dp

    @property
    def width(self) -> int:
        """Bytes of one element of the model."""
        return _WIDTHS[self.config.deepspeed.precision]

    @property
    def half(self) -> bool:
        return self.width < 4

    @property
    def on_gpu(self) -> bool:
        return self.config.resources.gpus_per_rank > 0

    @property
    def has_adapters(self) -> bool:
        return bool(self.config.training.lora)

    @property
    def recomputes(self) -> bool:
        return self.config.deepspeed.gradient_checkpointing

    def offloads(self, what: Literal["optimizer", "all"]) -> bool:
        """Whether the host has it instead of the GPU: optimizer states, or parameters as well. On a CPU
        there is no difference."""
        names = ("optimizer", "all") if what == "optimizer" else ("all",)
        return self.on_gpu and self.config.deepspeed.offload in names

    @property
    def held(self) -> float:
        """Parameters that this rank computes with: tensor parallelism cuts the layers' matrices, and leaves
        embeddings, output and norms whole; pipeline stages are taken to be alike."""
        one = self.sizes
        attention = 2 * one.hidden_size * (one.heads + one.kv_heads) * one.head_dim
        mlp = (3 if one.gated else 2) * one.hidden_size * one.intermediate_size
        cut = min(one.layers * (attention + mlp), one.parameters)
        return (one.parameters - cut + cut / self.config.parallel.tp) / self.config.parallel.pp

    @property
    def partitioned(self) -> float:
        """Parameters that stay here between passes: stage 3 shares them out."""
        return self.held / (self.dp if self.stage == 3 else 1)

    @property
    def trained(self) -> float:
        """Trained parameters of ``held``."""
        if not self.has_adapters:
            return self.held
        parallel = self.config.parallel
        return trainable_parameters(self.config, self.sizes) / (parallel.tp * parallel.pp)

    @property
    def owned(self) -> float:
        """Trained parameters whose optimizer states are here: ZeRO shares them out, and so does DeepSpeed's
        optimizer for bf16 in a pipeline (engine.py: _do_optimizer_sanity_check, bf16_optimizer.py)."""
        shared = self.stage >= 1 or (
            self.config.parallel.pp > 1 and self.config.deepspeed.precision == "bf16"
        )
        return self.trained / (self.dp if shared else 1)

    @property
    def embedding(self) -> int:
        """The embedding's; the output's matrix is as large."""
        return self.sizes.vocab_size * self.sizes.hidden_size

    @property
    def output_matrix(self) -> int:
        """The output's, or the embedding's, where it is trained."""
        return 0 if self.has_adapters else self.embedding

    @property
    def layers_in_flight(self) -> int:
        """Layers whose activations are kept. A pipeline's first stage has begun as many passes as there are
        stages, or as the step has, before it ends one (Narayanan et al. 2021, arXiv:2104.04473). Logits are
        the last stage's; no rank has more than both."""
        pp = self.config.parallel.pp
        passes = min(pp, self.config.training.gradient_accumulation_steps)
        return -(-self.sizes.layers // pp) * passes

    @property
    def bucket_limit(self) -> int:
        return self._setting("reduce_bucket_size")

    @property
    def bucket(self) -> float:
        """The buffer of gradients on their way: a GPU has all of it, a CPU what was written to."""
        return float(self.bucket_limit) if self.on_gpu else min(self.trained, float(self.bucket_limit))

    @property
    def gathered(self) -> float:
        """Parameters that stage 3 has gathered at one time. One rank alone uses its own where they are
        (zero/partition_parameters.py: _no_gather_coalesced), unless they come from the host."""
        if self.dp == 1 and not self.offloads("all"):
            return 0.0
        return min(self.held, float(self._setting("stage3_max_live_parameters")))

    @property
    def prefetched(self) -> float:
        """Parameters that stage 3 fetches ahead, in one buffer."""
        if self.gathered == 0:
            return 0.0
        return min(self.held, float(self._setting("stage3_prefetch_bucket_size")))

    def _setting(self, name: str) -> int:
        own: Any = self.config.deepspeed.config
        zero = own.get("zero_optimization") if isinstance(own, dict) else None
        value = zero.get(name) if isinstance(zero, dict) else None
        return int(value) if isinstance(value, (int, float)) and value > 0 else _DEFAULTS[name]
