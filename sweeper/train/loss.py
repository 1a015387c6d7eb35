"""Completion loss: logits only where there is something to predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sweeper.data import Batch

__all__ = ["DeviceBatch", "completion_logits", "completion_nll", "to_device"]

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class DeviceBatch:
    """A micro-batch as a model wants it; B rows of T tokens, K positions that predict something."""

    input_ids: torch.Tensor
    """int64 [B, T]"""
    position_ids: torch.Tensor | None
    """int64 [B, T]; only for packed rows. Restarting positions make the attention mask block-diagonal."""
    predicting: torch.Tensor
    """int64 [K]: positions whose next token carries loss in at least one row."""
    targets: torch.Tensor
    """int64 [B, K]: the next token, or -100 where it carries no loss."""
    completion_tokens: int
    tokens: int


def to_device(batch: Batch, device: torch.device | str, *, packed: bool) -> DeviceBatch:
    """Move a batch; which positions need logits is found on the host, so that nothing waits for the GPU.

    Rows are padded on the right, where causal attention never looks back from a real token, so
    that an unpacked batch needs no attention mask.
    """
    carries_loss = (batch.labels[:, 1:] != IGNORED).any(axis=0)
    predicting = np.flatnonzero(carries_loss)
    targets = batch.labels[:, predicting + 1]

    def move(array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    return DeviceBatch(
        input_ids=move(batch.input_ids),
        position_ids=move(batch.position_ids) if packed else None,
        predicting=move(predicting),
        targets=move(targets),
        completion_tokens=batch.completion_tokens,
        tokens=batch.tokens,
    )


def completion_logits(model: Any, batch: DeviceBatch) -> torch.Tensor:
    """fp32 [B, K, vocabulary]"""
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=batch.predicting,
        use_cache=False,
    )
    logits: torch.Tensor = output.logits
    return logits.float()


def completion_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood of the completion tokens, nats; a scalar on the device."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
