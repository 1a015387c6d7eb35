"""Held-out evaluation: token-weighted over all ranks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist

from sweeper.data import NO_LOSS
from sweeper.train.feed import EvaluationFeed
from sweeper.train.model.loss import completion_logits, completion_nll

__all__ = ["evaluate", "held_out_metrics", "tally"]

_LARGEST_EXPONENT = 700.0
"""exp() of more overflows a double."""


@torch.no_grad()
def evaluate(model: Any, feed: EvaluationFeed, device: torch.device | str) -> dict[str, float]:
    """``held_out_metrics`` of a model that is whole, or partitioned by ZeRO, on every rank."""
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch, counts in feed.batches:
        logits = completion_logits(model, batch)
        if counts:
            sums += tally(logits, batch.targets)
    model.train(was_training)
    return held_out_metrics(sums)


def tally(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """float64 [3], on the device: summed nll in nats, tokens predicted right, tokens with loss.

    Args:
        logits: [B, K, vocabulary]
        targets: int64 [B, K], NO_LOSS where nothing is predicted.
    """
    nll = completion_nll(logits, targets)
    right = (logits.argmax(dim=-1) == targets).sum()
    return torch.stack([part.double() for part in (nll, right, (targets != NO_LOSS).sum())])


def held_out_metrics(sums: torch.Tensor) -> dict[str, float]:
    """``eval/loss`` (nats per completion token), ``eval/perplexity``, ``eval/token_accuracy``, the same
    on every rank.

    Args:
        sums: this rank's tallies, added; they cross to the host once. All are ratios, so that it does
            not matter where several ranks tally the same rows, as tensor neighbours do.
    """
    if dist.get_world_size() > 1:
        dist.all_reduce(sums)
    nll, right, tokens = sums.tolist()
    loss = nll / tokens
    return {
        "eval/loss": loss,
        "eval/perplexity": math.exp(min(loss, _LARGEST_EXPONENT)) if math.isfinite(loss) else math.nan,
        "eval/token_accuracy": right / tokens,
    }
