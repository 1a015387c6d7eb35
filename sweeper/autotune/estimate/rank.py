"""What one rank has of a model, and what a decoder layer of it keeps of a pass.

Activations are what autograd saves: those inputs and outputs of each operation that its derivative needs
(torch's ``derivatives.yaml``), counted over one layer as transformers writes it. Korthikanti et al. 2022
(arXiv:2205.05198) count GPT's that way. Attention is the fused kind, which saves no scores; on a CPU there
is none of that kind with dropout. Tensor parallelism cuts heads and the MLP's width. They are bytes for each
token, if nothing else is said.
"""

from __future__ import annotations

from typing import Any, Literal

from sweeper.space import Config, Lora, ModelSizes

__all__ = ["FP32", "GIB", "Rank", "layer_bytes", "score_bytes", "trainable_parameters", "working_bytes"]

GIB = 2**30
FP32 = 4
_WIDTHS = {"fp32": 4, "bf16": 2, "fp16": 2}
_DEFAULTS = {
    "reduce_bucket_size": 500_000_000,
    "stage3_max_live_parameters": 1_000_000_000,
    "stage3_prefetch_bucket_size": 50_000_000,
}
"""DeepSpeed's own, in elements (deepspeed/runtime/zero/config.py)."""
_INTO_ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")
_OUT_OF_ATTENTION = ("o_proj", "out_proj", "c_proj", "dense")
_INTO_MLP = ("gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "dense_h_to_4h")
_OUT_OF_MLP = ("down_proj", "c_proj", "fc2", "dense_4h_to_h")
"""Names of linear modules in transformers, by what they read. GPT-2 has two of the name c_proj."""
_WRITTEN_OUT = ("gelu_new", "gelu_fast", "quick_gelu")
"""Activation functions that transformers computes in several operations, of which four outputs are saved."""


def trainable_parameters(config: Config, sizes: ModelSizes) -> int:
    """All, or those of the adapters: rank x (inputs + outputs) of each adapted matrix."""
    lora = config.training.lora
    if not lora:
        return sizes.parameters
    return lora.rank * sum(sizes.linear[name] for name in _adapted_modules(lora, sizes))


def _adapted_modules(lora: Lora, sizes: ModelSizes) -> frozenset[str]:
    """Names of the linear modules that have adapters."""
    wanted = lora.targets.split(",") if isinstance(lora.targets, str) else lora.targets
    names = {name.strip() for name in wanted}
    return frozenset(sizes.linear) if names == {"all-linear"} else frozenset(sizes.linear) & names


class Rank:
    """One rank's part of a model and of what training adds to it: elements, if nothing else is said."""

    def __init__(self, config: Config, sizes: ModelSizes) -> None:
        self.config, self.sizes = config, sizes
        self.stage, self.dp = config.deepspeed.zero_stage, config.parallel.dp
        self.recomputes = config.deepspeed.gradient_checkpointing
        self.width = _WIDTHS[config.deepspeed.precision]
        """Bytes of one element of the model."""
        self.half = self.width < FP32
        self.on_gpu = config.resources.gpus_per_rank > 0
        self.has_adapters = bool(config.training.lora)
        self.bucket_limit = self._setting("reduce_bucket_size")
        self.embedding = sizes.vocab_size * sizes.hidden_size
        """The embedding's; the output's matrix is as large."""
        self.output_matrix = 0 if self.has_adapters else self.embedding
        """The output's, or the embedding's, where it is trained."""
        head_width = sizes.head_dim / config.parallel.tp
        self.query_width, self.key_width = sizes.heads * head_width, sizes.kv_heads * head_width
        """The values' is the keys'."""
        self.mlp_width = sizes.intermediate_size / config.parallel.tp
        self.mask_width = 1 if self.on_gpu else self.width
        """Bytes of one value of a dropout's mask: a GPU has an operation with masks of bytes."""
        self.keeps_scores = sizes.attention_dropout > 0 and not self.on_gpu
        """Whether training has no fused kind of attention."""

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
        of_a_pipeline = self.config.parallel.pp > 1 and self.config.deepspeed.precision == "bf16"
        return self.trained / (self.dp if self.stage >= 1 or of_a_pipeline else 1)

    @property
    def layers_in_flight(self) -> int:
        """Layers whose activations are kept. A pipeline's first stage has begun as many passes as there are
        stages, or as the step has, before it ends one (Narayanan et al. 2021, arXiv:2104.04473). Logits are
        the last stage's; no rank has more than both."""
        pp = self.config.parallel.pp
        passes = min(pp, self.config.training.gradient_accumulation_steps)
        return -(-self.sizes.layers // pp) * passes

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


def layer_bytes(rank: Rank) -> float:
    """All that one layer saves, but scores; dropout masks what attention and MLP add to the hidden states."""
    masks = 2.0 * rank.sizes.hidden_size * rank.mask_width if rank.sizes.dropout > 0 else 0.0
    return _norms(rank) + _attention(rank) + _mlp(rank) + _inputs(rank) + masks


def score_bytes(rank: Rank, squared_tokens: int) -> float:
    """Bytes (not for each token) of scores that one layer saves for rows of these summed squared lengths.

    Without a fused kind, torch's scaled_dot_product_attention saves the softmax, the dropout's mask and their
    product in fp32 (_scaled_dot_product_attention_math).
    """
    if not rank.keeps_scores:
        return 0.0
    return 3.0 * FP32 * squared_tokens * rank.sizes.heads / rank.config.parallel.tp


def working_bytes(rank: Rank) -> float:
    """What a layer's backward pass has at once beside what was saved.

    At the MLP's product there are the gradients of both factors; in half precision a norm computes in fp32,
    and has three tensors of its width there and three of the model's own.
    """
    hidden = rank.sizes.hidden_size
    norm = (3 * FP32 + 3 * rank.width) * hidden if rank.half else 0
    return float(max(2 * rank.width * rank.mlp_width, norm))


def _norms(rank: Rank) -> float:
    """RMSNorm is written out: its input, which half precision converts to fp32, and, for the gradient of its
    weight, what it normalized. LayerNorm is one operation that saves its input."""
    sizes, width = rank.sizes, rank.width
    if not sizes.gated:
        return 2 * sizes.hidden_size * width
    normalized = 0 if rank.has_adapters else width
    heads = rank.query_width + rank.key_width if sizes.head_norms else 0.0
    return (2 * sizes.hidden_size + heads) * (FP32 + normalized)


def _attention(rank: Rank) -> float:
    """Queries, keys, values and the output, and the logarithm of each head's sum in fp32. Without the fused
    kind, queries and keys are scaled into copies, in fp32, and so are values in half precision."""
    query, key, width = rank.query_width, rank.key_width, rank.width
    if rank.keeps_scores:
        return FP32 * (query + 2 * key) + (0 if rank.half else FP32 * (query + key))
    return width * (2 * query + 2 * key) + FP32 * rank.sizes.heads / rank.config.parallel.tp


def _mlp(rank: Rank) -> float:
    """A gated one saves the gate, its activation and the other branch; another the activation's input, or
    what the operations save of which it is made. The product is the next module's input."""
    values = 3
    if not rank.sizes.gated:
        values = 4 if rank.sizes.activation in _WRITTEN_OUT else 1
    return values * rank.width * rank.mlp_width


def _inputs(rank: Rank) -> float:
    """What linear modules read, which the gradients of their matrices need; modules that read the same share
    it. A frozen matrix needs nothing; its adapter's first matrix reads the same, or a copy of its own with
    dropout, whose mask is saved as well; the second reads ``rank`` values (peft's lora/layer.py)."""
    width, hidden = rank.width, rank.sizes.hidden_size
    reads = (
        (_INTO_ATTENTION, hidden),
        (_OUT_OF_ATTENTION, rank.query_width),
        (_INTO_MLP, hidden),
        (_OUT_OF_MLP, rank.mlp_width),
    )
    lora = rank.config.training.lora
    if not lora:
        return sum(size for _, size in reads) * width
    adapted = _adapted_modules(lora, rank.sizes)
    total = 0.0
    for names, size in reads:
        modules = sum(name in adapted for name in names)
        copies, each = (modules, width + rank.mask_width) if lora.dropout > 0 else (min(modules, 1), width)
        total += copies * size * each + modules * lora.rank * width
    return total
