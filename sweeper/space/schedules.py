"""Learning rate schedules as pure functions of progress."""

from __future__ import annotations

import math

from sweeper.space.config.config import Scheduler

__all__ = ["lr_multiplier", "warmup_steps"]


def warmup_steps(total_steps: int, warmup_ratio: float, given: int | None = None) -> int:
    """Optimizer steps of linear warm-up, rounded up, and never all of them; as many as are ``given``, where
    that is said."""
    wanted = math.ceil(warmup_ratio * total_steps) if given is None else given
    return min(wanted, max(total_steps - 1, 0))


def lr_multiplier(
    step: int,
    *,
    total_steps: int,
    scheduler: Scheduler,
    warmup_ratio: float,
    decay_ratio: float,
    final_ratio: float,
    warmup: int | None = None,
) -> float:
    """The learning rate of optimizer step ``step`` (from 0) as a fraction of the peak.

    Warm-up rises linearly and its first step is not zero: (step + 1) / (warm-up steps + 1). It takes
    ``warmup`` steps, where that is said, else ``warmup_ratio`` of all.
    After it, with d the fraction of the remaining steps that is done and r the final ratio:

    - constant: 1
    - linear: r + (1 - r) (1 - d)
    - cosine: r + (1 - r) (1 + cos(pi d)) / 2   (Loshchilov and Hutter 2017, arXiv:1608.03983)
    - exponential: r ** d, so that it starts at 1 and ends at r, whatever the number of steps
    - wsd: 1, and at the end r + (1 - r) (1 - sqrt(d)), where d is the fraction that is done of the last
      ``decay_ratio`` of all steps, or of those after warm-up if they are fewer   (Hu et al. 2024,
      arXiv:2404.06395; the form of the decay: Hägele et al. 2024, arXiv:2405.18392)
    """
    rising = warmup_steps(total_steps, warmup_ratio, warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    start = max(total_steps * (1.0 - decay_ratio), rising) if scheduler == "wsd" else rising
    done = min(max((step - start) / ((total_steps - start) or 1), 0.0), 1.0)
    return _decayed(done, scheduler, final_ratio)


def _decayed(done: float, scheduler: Scheduler, final_ratio: float) -> float:
    if scheduler == "constant":
        return 1.0
    if scheduler == "exponential":
        return math.exp(done * math.log(final_ratio))
    falling = {
        "linear": 1.0 - done,
        "cosine": (1.0 + math.cos(math.pi * done)) / 2.0,
        "wsd": 1.0 - math.sqrt(done),
    }[scheduler]
    return final_ratio + (1.0 - final_ratio) * falling
