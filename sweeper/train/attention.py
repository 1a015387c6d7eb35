"""Attention that stays within each row, however many rows share a sequence.

A micro-batch is one flat sequence of whole rows, without padding. What keeps a row to itself is one of:

- ``varlen``: flash attention with the rows' boundaries, on a GPU where the package is installed;
- ``row_wise``: torch's scaled dot-product attention, causal, called once for each row. Its cost grows
  with the sum of the squared row lengths; one call with a block-diagonal mask over the whole sequence
  would grow with the square of the sum.

A model whose attention cannot be replaced (recurrent ones, for example) is ``padded``: rows stay apart
in a batch of their own lines, and cannot be packed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

__all__ = ["ROW_WISE", "Layout", "attention_arguments", "implementation_for", "layout_of", "moved"]

Layout = Literal["row_wise", "varlen", "padded"]
ROW_WISE = "sweeper_row_wise"
"""The name of our attention among those of transformers."""
_FLASH = "flash_attention_2"


def implementation_for(dtype: torch.dtype, device_type: str) -> str:
    """The attention that a model is loaded with, by its name in transformers."""
    half = dtype in (torch.bfloat16, torch.float16)
    if device_type == "cuda" and half and importlib.util.find_spec("flash_attn") is not None:
        return _FLASH
    return ROW_WISE


def layout_of(model: Any) -> Layout:
    """How micro-batches for this model are laid out."""
    name = model.config._attn_implementation
    if name == ROW_WISE:
        return "row_wise"
    return "varlen" if name == _FLASH else "padded"


def attention_arguments(lengths: Sequence[int], layout: Layout, device: torch.device | str) -> dict[str, Any]:
    """What tells the attention where rows end; keyword arguments of the model.

    Args:
        lengths: tokens of each row of the micro-batch.
    """
    if layout == "padded":
        return {}
    if layout == "row_wise":
        return {"row_lengths": tuple(lengths)}
    ends = moved(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), device)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def moved(array: np.ndarray[Any, Any], device: torch.device | str) -> torch.Tensor:
    """The array as a tensor on the device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()  # only a copy from pinned memory does not wait
    return tensor.to(device, non_blocking=True)


def attend_within_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: tuple[int, ...],
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row to itself, as transformers calls it.

    Args:
        query: [1, heads, T, head size]; key and value with as many or fewer heads.
        attention_mask: None; a flat batch has no padding to hide.
        row_lengths: tokens of each row, T together. A model that does not hand it on fails here
            instead of letting rows see each other.
        sliding_window: tokens that a token sees at most, itself included.

    Returns [1, T, heads, head size].
    """
    parts = []
    rows = zip(
        *(torch.split(tensor, list(row_lengths), dim=2) for tensor in (query, key, value)), strict=True
    )
    for row_query, row_key, row_value in rows:
        length = row_query.shape[2]
        limited = sliding_window is not None and length > sliding_window
        mask = _window(length, sliding_window, query.device) if limited and sliding_window else None
        output, _ = sdpa_attention_forward(module, row_query, row_key, row_value, mask, **options)
        parts.append(output)
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0], None


def _window(length: int, window: int, device: torch.device) -> torch.Tensor:
    """bool [1, 1, length, length]: causal, and no further back than the window."""
    place = torch.arange(length, device=device)
    back = place[:, None] - place[None, :]
    return ((back >= 0) & (back < window))[None, None]


AttentionInterface.register(ROW_WISE, attend_within_rows)
