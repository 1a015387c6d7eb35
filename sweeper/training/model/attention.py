"""Attention that stays within each row, however many rows share a sequence.

A micro-batch is one flat sequence of whole rows, without padding. What keeps a row to itself is one of:

- ``varlen``: one call of flash attention with the rows' boundaries, in half precision on a GPU: the kernel
  that torch has itself, from 2.10 on (``torch.nn.attention.varlen``), or the package flash-attn;
- ``row_wise``: torch's scaled dot-product attention, or the class's own, called once for each row. Its cost
  grows with the sum of the squared row lengths; one call with a block-diagonal mask over the whole
  sequence would grow with the square of the sum.

A model that carries state along the line by other means is ``padded``: rows stay apart in a batch of their
own lines, and cannot be packed. Which it is, ``row_check`` finds out.

A class says what it expects of its attention in two ways: by keyword arguments (a window, sinks, a
soft cap), and by the mask that it asks transformers for (windows, chunks, whatever else). Row-wise, RowMasks
makes that mask of a row when it is wanted.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = [
    "ROW_WISE",
    "ROW_WISE_AS_ASKED",
    "VARLEN",
    "Layout",
    "attention_arguments",
    "attention_words",
    "flat_attentions",
    "layout_named",
    "layout_of",
    "own_attention",
    "takes_no_cache",
    "to_device",
]

Layout = Literal["row_wise", "varlen", "padded"]
ROW_WISE = "sweeper_row_wise"
"""The name of our attention among those of transformers: causal, with the window that a layer names. Masks
are never made, and nothing waits for the device."""
ROW_WISE_AS_ASKED = "sweeper_row_wise_as_asked"
"""The same with the masks that the class asks for, and with its own function where sdpa lacks something."""
VARLEN = "sweeper_varlen"
"""torch's own flash attention over rows one after another; causal, with the window that a layer names."""

_FLASH = "flash_attention_2"
_WORDS = {
    VARLEN: "torch's variable-length flash attention",
    _FLASH: "the package flash-attn",
    ROW_WISE: "torch's scaled dot-product attention, row by row",
    ROW_WISE_AS_ASKED: "the class's own masks, row by row",
}

_BEYOND_SDPA = ("s_aux", "sinks", "softcap")
"""What the classes call a logit that a head may give its attention to, and a bound of the logits; torch's
scaled dot-product attention has neither, and transformers' call of it drops the first without a word."""

Attend = Callable[..., tuple[torch.Tensor, Any]]


def flat_attentions(dtype: torch.dtype, device_type: str) -> list[str]:
    """What may keep rows of one sequence apart, by its name in transformers, the first to be tried first: one
    call for all rows, then one for each."""
    half = dtype in (torch.bfloat16, torch.float16)
    one_call = []
    if device_type == "cuda" and half:
        there = ((VARLEN, "torch.nn.attention.varlen"), (_FLASH, "flash_attn"))
        one_call = [name for name, module in there if importlib.util.find_spec(module) is not None]
    return [*one_call, ROW_WISE, ROW_WISE_AS_ASKED]


def attention_words(attention: str) -> str:
    """What a person is told of an attention, by its name in transformers."""
    return _WORDS.get(attention, attention)


def layout_of(model: Any) -> Layout:
    """How micro-batches for this model are laid out."""
    return layout_named(model.config._attn_implementation)


def layout_named(attention: str) -> Layout:
    """How micro-batches are laid out for an attention, by its name in transformers."""
    if attention in (VARLEN, _FLASH):
        return "varlen"
    return "row_wise" if attention in (ROW_WISE, ROW_WISE_AS_ASKED) else "padded"


def takes_no_cache(attention: str) -> bool:
    """Whether it is for whole rows, and not for generating token after token."""
    return attention in (VARLEN, ROW_WISE, ROW_WISE_AS_ASKED)


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


class RowMasks:
    """Stands for the mask of a flat sequence: what each token of a row may see."""

    def __init__(self, make: Callable[..., torch.Tensor], causal_up_to: float) -> None:
        """``make``: transformers' own function, with the positions left open; rows of up to
        ``causal_up_to`` tokens are plainly causal."""
        self._make, self._causal_up_to = make, causal_up_to
        self._made: dict[tuple[int, int], torch.Tensor] = {}

    def of(self, start: int, length: int) -> torch.Tensor | None:
        """bool [1, 1, length, length], or None where nothing is asked beside causality."""
        if length <= self._causal_up_to:
            return None
        if (start, length) not in self._made:  # each layer asks again
            where = {"q_length": length, "kv_length": length, "q_offset": start, "kv_offset": start}
            self._made[start, length] = self._make(**where)
        return self._made[start, length]


def _row_masks(
    *,
    mask_function: Callable[..., Any],
    local_size: int | None = None,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **_: Any,
) -> RowMasks:
    """What transformers calls for a mask. A class's own additions to causality come as a function that is
    not indexed (``use_vmap``), windows and chunks as ``local_size``."""
    make = partial(
        sdpa_mask,
        batch_size=1,
        mask_function=mask_function,
        use_vmap=use_vmap,
        device=device,
        allow_is_causal_skip=False,
    )
    return RowMasks(make, 0 if use_vmap else float("inf") if local_size is None else local_size)


def attend_within_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: RowMasks | None,
    *,
    row_lengths: tuple[int, ...],
    sliding_window: int | None = None,
    attend: Attend = sdpa_attention_forward,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each row to itself, as transformers calls it.

    Args:
        query: [1, heads, T, head size]; key and value with as many or fewer heads.
        attention_mask: None where the class is not asked; a flat batch has no padding to hide.
        row_lengths: tokens of each row, T together. A model that does not hand it on fails here
            instead of letting rows see each other.
        sliding_window: tokens that a token sees at most, itself included.

    Returns [1, T, heads, head size].
    """
    parts, start = [], 0
    rows = zip(
        *(torch.split(tensor, list(row_lengths), dim=2) for tensor in (query, key, value)), strict=True
    )
    for row_query, row_key, row_value in rows:
        length = row_query.shape[2]
        if attention_mask is not None:
            mask = attention_mask.of(start, length)
        elif sliding_window and length > sliding_window:
            mask = _window(length, sliding_window, query.device)
        else:
            mask = None
        output, _ = attend(module, row_query, row_key, row_value, mask, **options)
        parts.append(output)
        start += length
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0], None


def attend_to_all_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What ``attend_within_rows`` gives, by one call of torch's flash attention.

    Args:
        cu_seq_lens_q: int32 [rows + 1], where each row begins, and the end.
        max_length_q: tokens of the longest.

    Raises: NotImplementedError for what the kernel has not, as the classes name it.
    """
    beyond = [name for name in _BEYOND_SDPA if options.get(name) is not None]
    if beyond or (dropout and module.training):
        raise NotImplementedError(f"no {', '.join(beyond) or 'dropout'} in torch's flash attention")
    kernel = _varlen_kernel()
    asked = _asked(_parameters(kernel), query.shape[-1], scaling, sliding_window)
    flat = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    ends, longest = cu_seq_lens_q, max_length_q
    output: torch.Tensor = kernel(*flat, ends, ends, longest, longest, **asked)
    return output[None], None


def _asked(known: frozenset[str], width: int, scaling: float | None, window: int | None) -> dict[str, Any]:
    """Keyword arguments of torch's kernel, which differ from release to release: 2.10 has ``is_causal``, no
    windows and one scale, and takes fewer heads of keys without being asked. What is wanted and not known is
    handed over all the same, and refused there."""
    usual = width**-0.5
    asked: dict[str, Any] = {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}
    if window:
        asked["window_size"] = (window - 1, 0)
    if "enable_gqa" in known:
        asked["enable_gqa"] = True
    if "scale" in known or scaling not in (None, usual):
        asked["scale"] = usual if scaling is None else scaling
    return asked


def _varlen_kernel() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


@cache
def _parameters(kernel: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(kernel).parameters)


def _attend_as_asked(*tensors: Any, **options: Any) -> tuple[torch.Tensor, None]:
    needs_own = any(options.get(name) is not None for name in _BEYOND_SDPA)
    return attend_within_rows(
        *tensors, attend=_attend_by_own_function if needs_own else sdpa_attention_forward, **options
    )


def _attend_by_own_function(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, Any]:
    """One row through the function that the class's file has for attention in plain torch. It takes a mask
    that is added, and stores a matrix of length x length for each head."""
    length, device = query.shape[2], query.device
    seen = _window(length, length, device) if mask is None else mask
    added = torch.zeros((), dtype=query.dtype, device=device)
    added = torch.where(seen, added, torch.finfo(query.dtype).min)
    own: Attend = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, query, key, value, added, **options)


def _window(length: int, window: int, device: torch.device) -> torch.Tensor:
    """bool [1, 1, length, length]: causal, and no further back than the window."""
    place = torch.arange(length, device=device)
    back = place[:, None] - place[None, :]
    return ((back >= 0) & (back < window))[None, None]


AttentionInterface.register(VARLEN, attend_to_all_rows)
AttentionInterface.register(ROW_WISE, attend_within_rows)
AttentionInterface.register(ROW_WISE_AS_ASKED, _attend_as_asked)
AttentionMaskInterface.register(ROW_WISE_AS_ASKED, _row_masks)
