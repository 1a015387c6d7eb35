"""How much memory a rank needs, by part: arithmetic, from the model's sizes and the largest forward pass.

Model states are those of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054, section 3), as DeepSpeed 0.19
lays them out with an optimizer that is given to it. Activations are what autograd saves: each operation's
inputs or outputs that its derivative needs (torch's ``derivatives.yaml``), counted over one layer as
transformers writes it; Korthikanti et al. 2022 (arXiv:2205.05198) count GPT's that way. Attention is the
fused kind, which saves no matrix of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sweeper.spec import Config, ModelSizes

__all__ = ["Calibration", "Memory", "Pass", "Workload", "calibrated", "predict", "trainable_parameters"]

_GIB = 2**30
_FP32 = 4
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_ADAM_BYTES = 8
"""Two moments in fp32 (Kingma and Ba 2015, arXiv:1412.6980)."""
_BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default reduce_bucket_size: gradients on their way to other ranks."""
_LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's default stage3_max_live_parameters."""
_FIXED_CPU_GIB, _FIXED_CUDA_GIB = 0.065, 0.25
"""What no formula has: code and workspaces that are loaded with the first trial (measured on CPUs), and
cuBLAS workspaces and small buffers on a GPU (not measured)."""
_FRAGMENTATION = {"cpu": 0.02, "cuda": 0.05}
"""Share of the tensors' memory that is lost between them. On a CPU they have pages of their own (measured);
for torch's CUDA allocator it is an allowance."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass of one rank."""

    tokens: int
    completion_tokens: int
    """Those that have logits."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The passes of one rank that need most."""

    first: Pass
    """Of the first passes of optimizer steps, which find no gradients there."""
    later: Pass | None
    """Of the others; None without accumulation."""
    held_out: Pass
    """Of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What measured steps make of the arithmetic; as it stands it is not calibrated."""

    states: float = 1.0
    """Measured over predicted memory of what stays from step to step."""
    passing: float = 1.0
    """Measured over predicted memory of what a pass takes on top."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One rank's peak over its idle process, GiB, by part. Parts that are zero are left out."""

    parts: dict[str, float] = field(default_factory=dict)
    moment: str = ""
    """When it is reached."""

    @property
    def total_gib(self) -> float:
        return sum(self.parts.values())

    @property
    def states_gib(self) -> float:
        """What stays from step to step."""
        return sum(gib for name, gib in self.parts.items() if name in _STAYING)

    @property
    def passing_gib(self) -> float:
        """What a pass takes on top."""
        return self.total_gib - self.states_gib


_UNTRAINED, _PARAMETERS, _MASTER, _ADAM, _FIXED = (
    "untrained copy",
    "parameters",
    "fp32 weights",
    "optimizer states",
    "libraries",
)
_STAYING = (_UNTRAINED, _PARAMETERS, _MASTER, _ADAM, _FIXED)
_GRADIENTS, _GATHERED, _BUCKETS, _ACTIVATIONS, _LOGITS, _LOST = (
    "gradients",
    "gathered parameters",
    "communication buffers",
    "activations",
    "logits",
    "fragmentation",
)


def calibrated(points: Sequence[tuple[Memory, float]]) -> Calibration:
    """What probes make of the arithmetic: each a prediction and the peak that was measured, GiB."""
    passing = sum(memory.passing_gib for memory, _ in points)
    taken = sum(measured - memory.states_gib for memory, measured in points)
    return Calibration(passing=min(max(taken / passing, 0.5), 2.0)) if passing else Calibration()


def trainable_parameters(config: Config, sizes: ModelSizes) -> int:
    """All, or those of the adapters: rank x (inputs + outputs) of each adapted matrix."""
    lora = config.training.lora
    if not lora:
        return sizes.parameters
    wanted = lora.targets.split(",") if isinstance(lora.targets, str) else lora.targets
    names = [name.strip() for name in wanted]
    return lora.rank * sum(n for name, n in sizes.linear.items() if names == ["all-linear"] or name in names)


def predict(
    config: Config, sizes: ModelSizes, work: Workload, calibration: Calibration | None = None
) -> Memory:
    """The peak of one rank, at the moment of a trial when it is highest."""
    moments = [
        Memory(parts={name: gib for name, gib in parts.items() if gib > 0}, moment=moment)
        for moment, parts in _moments(config, sizes, work).items()
    ]
    scaled = [_calibrated(one, calibration or Calibration()) for one in moments]
    return max(scaled, key=lambda one: one.total_gib)


def _calibrated(memory: Memory, by: Calibration) -> Memory:
    parts = {
        name: gib * (by.states if name in _STAYING else by.passing) for name, gib in memory.parts.items()
    }
    return Memory(parts=parts, moment=memory.moment)


def _moments(config: Config, sizes: ModelSizes, work: Workload) -> dict[str, dict[str, float]]:
    """Parts in GiB at each moment that may be the highest."""
    states = _states(config, sizes)
    gradients, buckets = _gradients(config, sizes)
    at_first = gradients if config.deepspeed.zero_stage == 3 else 0.0  # stage 3 keeps room for them
    moments = {"the first pass of a step": _pass(config, sizes, work.first, gradients=at_first)}
    if work.later is not None:
        moments["a later pass of a step"] = _pass(config, sizes, work.later, gradients=gradients)
    moments["the optimizer's step"] = {_GRADIENTS: gradients, _BUCKETS: buckets}
    moments["an evaluation"] = {
        _ACTIVATIONS: work.held_out.tokens * _layer_bytes(config, sizes) / 2 / _GIB,
        _LOGITS: _logits(sizes, work.held_out),
    }
    lost = _FRAGMENTATION["cuda" if config.resources.gpus_per_rank else "cpu"]
    return {
        moment: {**states, **parts, _LOST: lost * sum(parts.values())} for moment, parts in moments.items()
    }


def _pass(config: Config, sizes: ModelSizes, one: Pass, *, gradients: float) -> dict[str, float]:
    """At the start of its backward pass, when all layers have saved what they save; with checkpointing it
    may be higher when the first of them is computed anew, and its gradients are there as well."""
    layers = -(-sizes.layers // config.parallel.pp)
    kept = one.tokens * _kept_bytes(config, sizes) * layers / _GIB
    logits = _logits(sizes, one)
    if config.deepspeed.gradient_checkpointing:
        again = 1.5 * one.tokens * _layer_bytes(config, sizes) / _GIB
        if again > logits:
            return {_GRADIENTS: gradients, _ACTIVATIONS: kept + again, _GATHERED: _gathered(config, sizes)}
    return {_GRADIENTS: gradients, _ACTIVATIONS: kept, _LOGITS: logits, _GATHERED: _gathered(config, sizes)}


def _gathered(config: Config, sizes: ModelSizes) -> float:
    """GiB of parameters that ZeRO-3 has gathered from all ranks, or from itself, at one time."""
    if config.deepspeed.zero_stage < 3:
        return 0.0
    held = min(sizes.parameters / config.parallel.tp, _LIVE_PARAMETERS)
    return held * _BYTES[config.deepspeed.precision] / _GIB


def _states(config: Config, sizes: ModelSizes) -> dict[str, float]:
    """What stays from step to step."""
    memory, dp = config.deepspeed, config.parallel.dp
    on_cpu = not config.resources.gpus_per_rank
    held = sizes.parameters / (config.parallel.tp * config.parallel.pp)
    trained = trainable_parameters(config, sizes) / (config.parallel.tp * config.parallel.pp)
    stage, width = memory.zero_stage, _BYTES[memory.precision]
    share = dp if stage >= 1 else 1
    offloaded = not on_cpu and memory.offload != "none"
    master = trained * _FP32 / share if stage >= 1 or width < _FP32 else 0.0
    adam = trained * _ADAM_BYTES / share
    parameters = held * width / (dp if stage == 3 else 1)
    return {
        _UNTRAINED: sizes.parameters * width / _GIB if on_cpu else 0.0,
        _PARAMETERS: 0.0 if not on_cpu and memory.offload == "all" else parameters / _GIB,
        _MASTER: 0.0 if offloaded else master / _GIB,
        _ADAM: 0.0 if offloaded else adam / _GIB,
        _FIXED: _FIXED_CPU_GIB if on_cpu else _FIXED_CUDA_GIB,
    }


def _gradients(config: Config, sizes: ModelSizes) -> tuple[float, float]:
    """GiB of gradients, and of the buffers in which they travel."""
    memory, dp = config.deepspeed, config.parallel.dp
    trained = trainable_parameters(config, sizes) / (config.parallel.tp * config.parallel.pp)
    width = _BYTES[memory.precision]
    share = dp if memory.zero_stage >= 2 else 1
    bucket = min(trained, _BUCKET_ELEMENTS) * width if dp > 1 or memory.zero_stage >= 2 else 0.0
    return trained * width / share / _GIB, bucket / _GIB


def _layer_bytes(config: Config, sizes: ModelSizes) -> float:
    """What one layer saves for its backward pass, bytes for each token.

    Llama: both norms save their input, the normalized input and the output (in half precision the first in
    fp32); the rotated queries and keys, the values, the attention's output, and it once more as the
    projection's input; and the MLP its gate, the gate's activation, its other branch and their product.
    GPT-2: norms save input and output, the MLP's tanh form of GELU saves five values of its width, and
    dropout saves its masks.
    """
    width = _BYTES[config.deepspeed.precision]
    h, f = sizes.hidden_size, sizes.intermediate_size
    q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    if not sizes.gated:
        return float(width * (6 * h + 3 * q + 2 * kv + 5 * f))
    norms = 2 * (3 * h * width if width == _FP32 else (_FP32 + 2 * width) * h)
    return float(norms + width * (3 * q + 2 * kv + 4 * f)) + _adapter_bytes(config, sizes)


def _adapter_bytes(config: Config, sizes: ModelSizes) -> float:
    return 0.0


def _kept_bytes(config: Config, sizes: ModelSizes) -> float:
    """What one layer keeps between its forward and its backward pass: with checkpointing its input."""
    if config.deepspeed.gradient_checkpointing:
        return float(sizes.hidden_size * _BYTES[config.deepspeed.precision])
    return _layer_bytes(config, sizes)


def _logits(sizes: ModelSizes, one: Pass) -> float:
    """GiB in fp32: the log-probabilities, their gradient and the gradient of the logits."""
    return 3 * one.completion_tokens * sizes.vocab_size * _FP32 / _GIB
