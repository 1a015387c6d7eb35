"""Attention that stays within each row, however many rows share a sequence.

A micro-batch is one flat sequence of whole rows, without padding. What keeps a row to itself is one of:

- ``varlen``: flash attention with the rows' boundaries, on a GPU where the package is installed;
- ``row_wise``: torch's scaled dot-product attention, or the class's own, called once for each row. Its cost
  grows with the sum of the squared row lengths; one call with a block-diagonal mask over the whole
  sequence would grow with the square of the sum.

A model that carries state along the line by other means is ``padded``: rows stay apart in a batch of their
own lines, and cannot be packed. Which it is, ``row_check`` finds out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from sweeper.train.model.row_wise import ROW_WISE, ROW_WISE_AS_ASKED

__all__ = [
    "ROW_WISE",
    "ROW_WISE_AS_ASKED",
    "Layout",
    "attention_arguments",
    "implementation_for",
    "layout_named",
    "layout_of",
    "own_attention",
    "takes_no_cache",
    "to_device",
]

Layout = Literal["row_wise", "varlen", "padded"]
_FLASH = "flash_attention_2"


def implementation_for(dtype: torch.dtype, device_type: str) -> str:
    """The attention that a model is loaded with, by its name in transformers."""
    half = dtype in (torch.bfloat16, torch.float16)
    if device_type == "cuda" and half and importlib.util.find_spec("flash_attn") is not None:
        return _FLASH
    return ROW_WISE


def layout_of(model: Any) -> Layout:
    """How micro-batches for this model are laid out."""
    return layout_named(model.config._attn_implementation)


def layout_named(attention: str) -> Layout:
    """How micro-batches are laid out for an attention, by its name in transformers."""
    if takes_no_cache(attention):
        return "row_wise"
    return "varlen" if attention == _FLASH else "padded"


def takes_no_cache(attention: str) -> bool:
    """Whether it is for whole rows, and not for generating token after token."""
    return attention in (ROW_WISE, ROW_WISE_AS_ASKED)


def own_attention(model: Any) -> str:
    """What transformers takes for a class that nobody has chosen an attention for."""
    return "sdpa" if model._supports_sdpa else "eager"


def attention_arguments(lengths: Sequence[int], layout: Layout, device: torch.device | str) -> dict[str, Any]:
    """What tells the attention where rows end; keyword arguments of the model.

    Args:
        lengths: tokens of each row of the micro-batch.
    """
    if layout == "padded":
        return {}
    if layout == "row_wise":
        return {"row_lengths": tuple(lengths)}
    ends = to_device(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), device)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def to_device(array: np.ndarray[Any, Any], device: torch.device | str) -> torch.Tensor:
    """The array as a tensor on the device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()  # only a copy from pinned memory does not wait
    return tensor.to(device, non_blocking=True)
