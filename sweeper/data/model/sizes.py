"""How large a model is, told from the heads of its files: no weight is read."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.data.model.gguf_header import read_gguf_header, read_gguf_tensors
from sweeper.data.model.model_folder import (
    SIZE_KEYS,
    first_int,
    gguf_size_keys,
    json_object,
    model_folder,
    size_config,
)
from sweeper.space import ModelSizes

__all__ = ["model_sizes"]

Shapes = Mapping[str, tuple[int, ...]]

_LONGEST_HEAD_BYTES = 2**27
_GATES = ("gate_proj", "gate_up_proj", "ffn_gate", ".w1.", ".w3.")
_MASKS, _FREQUENCIES = (".attn.bias", ".attn.masked_bias"), ".inv_freq"
"""Ends of names that older checkpoints have beside parameters. A bias has one dimension, a mask has not."""
_OUTPUTS = ("lm_head.weight", "embed_out.weight", "output.weight")
"""Whole names of output matrices; lm_head may be part of something larger."""
_HEAD_NORMS = ("q_norm", "k_norm")
_NOT_ADAPTED = ("embed", "wte", "wpe", "lm_head", "token_embd")
"""Parts of names of matrices that ``all-linear`` leaves alone."""
_OF_GGUF = {
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}


def model_sizes(model_path: str) -> ModelSizes | None:
    """The sizes of a model's folder with safetensors, or of a ``.gguf`` file.

    None for a hub id, for weights of an older kind, and for what is no model that could be told: whoever
    loads it will say what is wrong.
    """
    path = Path(model_folder(model_path))
    try:
        if path.is_file():
            return _of_gguf(path)
        if path.is_dir():
            return _of_folder(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return None


def _of_folder(folder: Path) -> ModelSizes | None:
    config = json_object(folder / "config.json") or {}
    sizes = size_config(config)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shapes |= _shapes_in(file)
    shapes = _parameters(shapes, tied=bool(config.get("tie_word_embeddings")))
    if not shapes:
        return None
    return _sizes(
        shapes,
        sizes,
        SIZE_KEYS,
        activation=_activation(sizes),
        dropout=_rate(sizes, "resid_pdrop", "hidden_dropout", "residual_dropout", "dropout"),
        attention_dropout=_rate(sizes, "attn_pdrop", "attention_dropout"),
    )


def _of_gguf(file: Path) -> ModelSizes:
    header = read_gguf_header(file)
    return _sizes(read_gguf_tensors(file), header, gguf_size_keys(str(header["general.architecture"])))


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """The head of a safetensors file: its length as uint64, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > _LONGEST_HEAD_BYTES:
            raise ValueError(length)
        head = json.loads(stream.read(length))
    return {name: tuple(one["shape"]) for name, one in head.items() if name != "__metadata__"}


def _parameters(shapes: Shapes, *, tied: bool) -> dict[str, tuple[int, ...]]:
    """Without buffers, and without an output matrix that is the embedding once more."""
    return {
        name: shape
        for name, shape in shapes.items()
        if not name.endswith(_FREQUENCIES)
        and not (name.endswith(_MASKS) and len(shape) != 1)
        and not (name.endswith("lm_head.weight") and tied)
    }


def _sizes(
    shapes: Shapes, config: Mapping[str, Any], keys: Mapping[str, Sequence[str]], **more: Any
) -> ModelSizes:
    """Raises: KeyError."""
    hidden, heads = _first(config, keys["hidden_size"]), _first(config, keys["heads"])
    linear: dict[str, int] = {}
    for name, shape in shapes.items():
        if len(shape) == 2 and name.count(".") > 1 and not any(one in name for one in _NOT_ADAPTED):
            module = name.split(".")[-2]
            module = _OF_GGUF.get(module, module)
            linear[module] = linear.get(module, 0) + sum(shape)
    return ModelSizes(
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        gated=any(gate in name for name in shapes for gate in _GATES),
        tied=not any(name in _OUTPUTS or name.endswith(".lm_head.weight") for name in shapes),
        linear=linear,
        head_norms=any(norm in name for name in shapes for norm in _HEAD_NORMS),
        layers=_first(config, keys["layers"]),
        hidden_size=hidden,
        intermediate_size=_first(config, keys["intermediate_size"], 4 * hidden),
        heads=heads,
        kv_heads=_first(config, keys["kv_heads"], heads),
        head_dim=_first(config, keys["head_dim"], hidden // heads),
        vocab_size=_first(config, keys["vocab_size"]),
        **more,
    )


def _first(config: Mapping[str, Any], keys: Sequence[str], default: int | None = None) -> int:
    """Raises: KeyError where there is neither a size nor a default."""
    sizes = (first_int(config, key) or 0 for key in keys)
    found = next((size for size in sizes if size > 0), default)
    if found is None:
        raise KeyError(keys)
    return found


def _activation(config: Mapping[str, Any]) -> str:
    names = (config.get(key) for key in ("hidden_act", "activation_function", "hidden_activation"))
    return next((name for name in names if isinstance(name, str)), "")


def _rate(config: Mapping[str, Any], *keys: str) -> float:
    values = (config.get(key) for key in keys)
    return next((float(value) for value in values if isinstance(value, (int, float))), 0.0)
