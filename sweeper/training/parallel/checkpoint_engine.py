"""How DeepSpeed's part of a checkpoint is written and read."""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from safetensors import SafetensorError

__all__ = ["TAG", "WRITE_ERRORS", "SafeCheckpoints"]

TAG = "state"
"""The folder of DeepSpeed's part of a checkpoint."""

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a full or failing disk comes up as: torch and safetensors have their own words for it."""
_HARMLESS = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]
"""What DeepSpeed puts beside tensors: its own settings and loss scalers, which only hold numbers."""


class SafeCheckpoints(TorchCheckpointEngine):  # type: ignore[misc]  # deepspeed is untyped
    """DeepSpeed's way of writing checkpoints, with a loader that unpickles tensors and plain values only.

    What cannot be written is kept as a problem: were it raised in one rank, the others would wait for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._needed_bytes, self._problem = 0, ""

    def save(self, state_dict: Any, path: str) -> None:
        self._needed_bytes += _tensor_bytes(state_dict)
        try:
            super().save(state_dict, path)
        except WRITE_ERRORS as error:
            self._problem = self._problem or str(error).partition("\n")[0] or type(error).__name__

    def load(self, path: str, map_location: Any = None) -> Any:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location=map_location, weights_only=True)

    def settle(self) -> tuple[int, str]:
        """Bytes that the files written since the last call need, and what went wrong with them."""
        settled = self._needed_bytes, self._problem
        self._needed_bytes, self._problem = 0, ""
        return settled


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, torch.Tensor):
        return tree.nbytes
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return sum(map(_tensor_bytes, values))
