"""Completion loss: logits only where there is something to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sweeper.data import NO_LOSS, TokenizedSplit, collate
from sweeper.training.model.attention import Layout, attention_arguments, to_device

__all__ = ["DeviceBatch", "completion_logits", "completion_nll", "device_batch"]

Rows = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class DeviceBatch:
    """A micro-batch as a model wants it.

    Flat layouts have B = 1 line of whole rows, one after another; ``padded`` has one row a line.
    """

    input_ids: torch.Tensor
    """int64 [B, T]"""
    position_ids: torch.Tensor
    """int64 [B, T]: counts from 0 in each row."""
    attention: dict[str, Any]
    """What tells the attention where rows end."""
    predicting: torch.Tensor
    """int64 [K]: positions whose next token carries loss (in at least one line)."""
    targets: torch.Tensor
    """int64 [B, K]: the next token, or NO_LOSS."""


def device_batch(
    split: TokenizedSplit,
    rows: Sequence[int] | Rows,
    *,
    layout: Layout,
    pad_id: int,
    device: torch.device | str,
) -> DeviceBatch:
    """The micro-batch of these rows. Everything that depends on a value is worked out on the host, so
    that nothing waits for the device.

    A padded batch needs no attention mask: padding is on the right, where causal attention never
    looks back from a real token.
    """
    whole = np.asarray(rows, dtype=np.int64)
    lines = [whole[i : i + 1] for i in range(len(whole))] if layout == "padded" else [whole]
    batch = collate(split, lines, pad_id)
    predicting = np.flatnonzero((batch.labels[:, 1:] != NO_LOSS).any(axis=0))
    return DeviceBatch(
        input_ids=to_device(batch.input_ids, device),
        position_ids=to_device(batch.position_ids, device),
        attention=attention_arguments(split.lengths[whole].tolist(), layout, device),
        predicting=to_device(predicting, device),
        targets=to_device(batch.labels[:, predicting + 1], device),
    )


def completion_logits(model: Any, batch: DeviceBatch) -> torch.Tensor:
    """fp32 [B, K, vocabulary]

    Rows that are padded count their positions as the model does itself: some classes begin at 2.
    """
    positions = {"position_ids": batch.position_ids} if batch.attention else {}
    output = model(
        input_ids=batch.input_ids,
        logits_to_keep=batch.predicting,
        use_cache=False,
        **positions,
        **batch.attention,
    )
    logits: torch.Tensor = output.logits
    if logits.shape[1] != len(batch.predicting):  # a class that does not know logits_to_keep
        logits = logits[:, batch.predicting]
    return logits.float()


def completion_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood of the completion tokens, nats; a scalar on the device."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_LOSS, reduction="sum")
