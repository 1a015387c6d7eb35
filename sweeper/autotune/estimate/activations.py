"""What one decoder layer keeps of a pass, and works with: bytes for each token.

Activations are what autograd saves: those inputs and outputs of each operation that its derivative needs
(torch's ``derivatives.yaml``), counted over one layer as transformers writes it. Korthikanti et al. 2022
(arXiv:2205.05198) count GPT's that way. Attention is the fused kind, which saves no scores; on a CPU there
is none of that kind with dropout. Tensor parallelism cuts heads and the MLP's width.
"""

from __future__ import annotations

from sweeper.autotune.estimate.share import Share, adapted_modules

__all__ = ["keeps_scores", "kept_bytes", "layer_bytes", "score_bytes", "working_bytes"]

_FP32 = 4
_INTO_ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")
_OUT_OF_ATTENTION = ("o_proj", "out_proj", "c_proj", "dense")
_INTO_MLP = ("gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "dense_h_to_4h")
_OUT_OF_MLP = ("down_proj", "c_proj", "fc2", "dense_4h_to_h")
"""Names of linear modules in transformers, by what they read. GPT-2 has two of the name c_proj."""
_WRITTEN_OUT = ("gelu_new", "gelu_fast", "quick_gelu")
"""Activation functions that transformers computes in several operations, of which four outputs are saved."""


def kept_bytes(share: Share) -> float:
    """What a layer keeps from its forward to its backward pass: with checkpointing its input."""
    if share.recomputes:
        return float(share.sizes.hidden_size * share.width)
    return layer_bytes(share)


def layer_bytes(share: Share) -> float:
    """All that one layer saves, but scores."""
    return _norms(share) + _attention(share) + _mlp(share) + _inputs(share) + _residual_masks(share)


def score_bytes(share: Share, squared_tokens: int) -> float:
    """Bytes (not for each token) of scores that one layer saves for rows of these summed squared lengths.

    Without a fused kind, torch's scaled_dot_product_attention saves the softmax, the dropout's mask and their
    product in fp32 (_scaled_dot_product_attention_math).
    """
    if not keeps_scores(share):
        return 0.0
    return 3.0 * _FP32 * squared_tokens * share.sizes.heads / share.config.parallel.tp


def working_bytes(share: Share) -> float:
    """What a layer's backward pass has at once beside what was saved.

    At the MLP's product there are the gradients of both factors; in half precision a norm computes in fp32,
    and has three tensors of its width there and three of the model's own.
    """
    hidden = share.sizes.hidden_size
    norm = (3 * _FP32 + 3 * share.width) * hidden if share.half else 0
    return float(max(2 * share.width * _mlp_width(share), norm))


def _mlp_width(share: Share) -> float:
    return share.sizes.intermediate_size / share.config.parallel.tp


def _widths(share: Share) -> tuple[float, float]:
    """Of the queries, and of the keys, which is that of the values."""
    sizes, tp = share.sizes, share.config.parallel.tp
    return sizes.heads * sizes.head_dim / tp, sizes.kv_heads * sizes.head_dim / tp


def keeps_scores(share: Share) -> bool:
    """Whether training has no fused kind of attention."""
    return share.sizes.attention_dropout > 0 and not share.on_gpu


def _norms(share: Share) -> float:
    """RMSNorm is written out: its input, which half precision converts to fp32, and, for the gradient of its
    weight, what it normalized. LayerNorm is one operation that saves its input."""
    sizes, width = share.sizes, share.width
    if not sizes.gated:
        return 2 * sizes.hidden_size * width
    normalized = 0 if share.has_adapters else width
    query, key = _widths(share) if sizes.head_norms else (0.0, 0.0)
    return (2 * sizes.hidden_size + query + key) * (_FP32 + normalized)


def _attention(share: Share) -> float:
    """Queries, keys, values and the output, and the logarithm of each head's sum in fp32. Without the fused
    kind, queries and keys are scaled into copies, in fp32, and so are values in half precision."""
    (query, key), width = _widths(share), share.width
    if keeps_scores(share):
        return _FP32 * (query + 2 * key) + (0 if share.half else _FP32 * (query + key))
    return width * (2 * query + 2 * key) + _FP32 * share.sizes.heads / share.config.parallel.tp


def _mlp(share: Share) -> float:
    """A gated one saves the gate, its activation and the other branch; another the activation's input, or
    what the operations save of which it is made. The product is the next module's input."""
    values = 3
    if not share.sizes.gated:
        values = 4 if share.sizes.activation in _WRITTEN_OUT else 1
    return values * share.width * _mlp_width(share)


def _inputs(share: Share) -> float:
    """What linear modules read, which the gradients of their matrices need; modules that read the same share
    it. A frozen matrix needs nothing; its adapter's first matrix reads the same, or a copy of its own with
    dropout, whose mask is saved as well; the second reads ``rank`` values (peft's lora/layer.py)."""
    width, hidden = share.width, share.sizes.hidden_size
    query, _ = _widths(share)
    reads = (
        (_INTO_ATTENTION, hidden),
        (_OUT_OF_ATTENTION, query),
        (_INTO_MLP, hidden),
        (_OUT_OF_MLP, _mlp_width(share)),
    )
    lora = share.config.training.lora
    if not lora:
        return sum(size for _, size in reads) * width
    adapted = adapted_modules(share.config, share.sizes)
    total = 0.0
    for names, size in reads:
        modules = sum(name in adapted for name in names)
        if lora.dropout > 0:
            total += modules * size * (width + _mask_width(share))
        else:
            total += min(modules, 1) * size * width
        total += modules * lora.rank * width
    return total


def _mask_width(share: Share) -> int:
    """Bytes of one value of a dropout's mask: a GPU has an operation with masks of bytes."""
    return 1 if share.on_gpu else share.width


def _residual_masks(share: Share) -> float:
    """Dropout of what attention and MLP add to the hidden states."""
    return 2.0 * share.sizes.hidden_size * _mask_width(share) if share.sizes.dropout > 0 else 0.0
