"""The whole state of a run in one folder, written whole or not at all.

``state/`` is DeepSpeed's checkpoint (weights, optimizer, schedule, loss scale), ``random-<rank>.pt``
the random generators of each rank, ``progress.json`` where the trainer was. The place in the data
follows from the step: the order of the rows is a function of the seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from sweeper.errors import TrialFailedError, UserError
from sweeper.spec import Config
from sweeper.train.executor import Executor

__all__ = ["Place", "SafeCheckpoints", "restore", "run_hash", "save"]

_PROGRESS = "progress.json"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is."""

    step: int
    """Optimizer steps done."""
    first_loss: float | None
    """Of the first step; what divergence is measured against."""
    elapsed_s: float
    objective: float | None
    """At the last evaluation."""
    ranks: int
    run: str
    """Which run it is: a hash of everything that its steps follow from."""


def run_hash(config: Config, data_fingerprint: str) -> str:
    """Equal for two runs whose steps are equal: the same model, data and settings of the training."""
    settings = config.model_dump(mode="json", include={"model_path", "training", "deepspeed", "parallel"})
    text = json.dumps([settings, data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class SafeCheckpoints(TorchCheckpointEngine):  # type: ignore[misc]  # deepspeed is untyped
    """DeepSpeed's way of writing checkpoints, with a loader that unpickles tensors and plain values only."""

    def load(self, path: str, map_location: Any = None) -> Any:
        with torch.serialization.safe_globals(_harmless_types()):
            return torch.load(path, map_location=map_location, weights_only=True)


def save(executor: Executor, folder: Path, place: Place) -> None:
    """Write a new folder. All ranks call it and share the file system that it lies on.

    Raises: FileExistsError where the folder is there already; OSError where it cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.partial")
    rank = dist.get_rank()
    if rank == 0:
        if folder.exists():
            raise FileExistsError(folder)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    dist.barrier()
    executor.save_checkpoint(draft)
    torch.save(_random_state(), draft / f"random-{rank}.pt")
    dist.barrier()
    if rank == 0:
        (draft / _PROGRESS).write_text(json.dumps(asdict(place)), encoding="utf-8")
        _flush(draft)
        draft.replace(folder)
    dist.barrier()


def restore(executor: Executor, folder: Path, run: str) -> Place:
    """Take up what ``save`` wrote, on as many ranks as then.

    Raises: TrialFailedError where the folder is no whole checkpoint; UserError where it is another run's.
    """
    try:
        place = Place(**json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TrialFailedError(f"{folder} is not a whole checkpoint: {error}") from error
    if (place.ranks, place.run) != (dist.get_world_size(), run):
        raise UserError.of(
            where=str(folder),
            value=f"{place.ranks} ranks, step {place.step}",
            rule="the checkpoint is of a run with other settings, data or ranks",
            remedy="go on with the settings that it was begun with, or delete it to begin anew",
        )
    executor.load_checkpoint(folder)
    _set_random_state(torch.load(folder / f"random-{dist.get_rank()}.pt", weights_only=True))
    return place


def _random_state() -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "device": get_accelerator().get_rng_state() if _has_device() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["device"] is not None:
        get_accelerator().set_rng_state(state["device"])


def _has_device() -> bool:
    return bool(get_accelerator().device_name() != "cpu")


def _harmless_types() -> list[Any]:
    """What DeepSpeed puts beside tensors: its own settings and loss scalers, which only hold numbers."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]


def _flush(folder: Path) -> None:
    """To the disk before the rename, so that a machine that stops leaves no folder that only looks whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
