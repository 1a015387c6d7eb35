"""Short names of dimensions, for narrow tables and lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeper.space.space import Space

__all__ = ["short_label"]

_SHORT = {
    "gradient_accumulation_steps": "accum",
    "gradient_checkpointing": "recompute",
    "per_device_batch_size": "micro",
    "global_batch_size": "batch",
    "warmup_ratio": "warmup",
    "warmup_steps": "warm-up steps",
    "weight_decay": "decay",
    "final_lr_ratio": "final lr",
    "max_grad_norm": "clip",
}


def short_label(space: Space, name: str, *, taken: Sequence[str] = ()) -> str:
    """The last part of a dimension's name where that is still unique (``rank`` for ``lora.rank``), long ones
    cut down; ``taken`` are words that mean something else."""
    if name in _SHORT:
        return _SHORT[name]
    last = name.rpartition(".")[2]
    others = [*taken, *(one.name.rpartition(".")[2] for one in space.dimensions)]
    return last if others.count(last) == 1 else name
