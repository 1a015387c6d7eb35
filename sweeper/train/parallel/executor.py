"""What a trainer needs of the ranks, however the model is spread over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from sweeper.train.feed import EvaluationFeed

__all__ = ["Executor"]


class Executor(Protocol):
    """One model on the ranks of one trial. Every rank makes the same calls, in the same order."""

    ds_config: dict[str, Any]
    """The DeepSpeed configuration exactly as used."""

    def optimizer_step(self, step: int) -> tuple[torch.Tensor, float | torch.Tensor | None]:
        """Train on global batch ``step`` of the feed, and move the weights and the schedule once.

        Returns what this rank adds to the summed negative log-likelihood of the global batch, nats, on
        the device (summed over all ranks it is the batch's own), and the norm of the gradient before
        clipping, where DeepSpeed tells it.
        """

    def evaluate(self, feed: EvaluationFeed) -> dict[str, float]:
        """``eval/loss`` and its like, the same on every rank."""

    def save_checkpoint(self, folder: Path) -> tuple[int, str]:
        """Weights, optimizer and schedule of every rank into a folder that all ranks share.

        Returns the bytes that this rank's part needs, and why it could not be written: empty where it was.
        """

    def load_checkpoint(self, folder: Path) -> None:
        """Take up what ``save_checkpoint`` wrote, to the last bit."""

    def state_dict(self) -> dict[str, torch.Tensor] | None:
        """The whole model's weights by their names in transformers; on rank 0 only, None elsewhere."""

    def close(self) -> None:
        """Free the model, the optimizer and DeepSpeed's buffers."""
