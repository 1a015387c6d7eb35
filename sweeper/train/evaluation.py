"""Held-out evaluation: token-weighted over all ranks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist

from sweeper.train.feed import EvaluationFeed
from sweeper.train.loss import completion_logits, completion_nll

__all__ = ["evaluate"]

_LARGEST_EXPONENT = 700.0
"""exp() of more overflows a double."""


@torch.no_grad()
def evaluate(model: Any, feed: EvaluationFeed, device: torch.device | str) -> dict[str, float]:
    """``eval/loss`` (nats per completion token), ``eval/perplexity``, ``eval/token_accuracy``.

    Sums are kept on the device in double precision and cross to the host once.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # nll, right tokens, tokens
    for batch, counts in feed.batches:
        logits = completion_logits(model, batch)
        if counts:
            sums[0] += completion_nll(logits, batch.targets)
            sums[1] += (logits.argmax(dim=-1) == batch.targets).sum()
            sums[2] += batch.completion_tokens
    if dist.get_world_size() > 1:
        dist.all_reduce(sums)
    model.train(was_training)
    nll, right, tokens = sums.tolist()
    loss = nll / tokens
    return {
        "eval/loss": loss,
        "eval/perplexity": math.exp(min(loss, _LARGEST_EXPONENT)) if math.isfinite(loss) else math.nan,
        "eval/token_accuracy": right / tokens,
    }
