"""Tests of what a GPU does otherwise. A variable has a CPU run them, so that their mistakes show here:

SWEEPER_REHEARSE_GPU=1 python -m pytest -m gpu
"""

from __future__ import annotations

import os

import pytest

from sweeper.data.gathering import count_gpus
from sweeper.space import Config

__all__ = ["GPU_TESTS", "HAS_GPU", "REHEARSED", "allocated_gib", "on_gpu"]

HAS_GPU = count_gpus() > 0
REHEARSED = not HAS_GPU and os.environ.get("SWEEPER_REHEARSE_GPU") == "1"
GPU_TESTS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (HAS_GPU or REHEARSED), reason="needs a CUDA device, and none is here"),
]


def on_gpu(config: Config, *, share: float = 1.0, limit_gib: float | None = None) -> Config:
    """The configuration with each rank on a GPU, or on a share of one; in a rehearsal on the CPU."""
    resources = {"gpus_per_rank": share if HAS_GPU else 0, "memory_limit_gib": limit_gib}
    return config.model_copy(update={"resources": config.resources.model_copy(update=resources)})


def allocated_gib() -> float:
    """Of this process on the GPU; 0 in a rehearsal."""
    import torch

    return torch.cuda.memory_allocated() / 2**30 if HAS_GPU else 0.0
