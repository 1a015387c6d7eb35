"""Which system configurations a shape can have, which of them fit, and which are worth a probe."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeper.autotune.estimate.memory_model import Memory
from sweeper.space import Config, SystemConfig, system_config_of, with_system_config

__all__ = ["Candidate", "first_probe", "next_probe", "system_configs"]

MEMORY_FRACTION = 0.95
"""Fraction of what a rank may hold that a candidate may be predicted to need."""
_HALF_SPEED_TOKENS = {"cpu": 32, "cuda": 512}
"""Tokens of a pass at which half of its time is overhead: where to begin, no more; probes decide."""
_GOOD_ENOUGH = 0.97
_RECOMPUTED = 4 / 3
"""A pass with gradient checkpointing computes forward once more: three thirds of a pass become four."""
_STAGE_PRICE = (1.0, 1.0, 1.02, 1.2)
_LEAST_STAGE = {"none": 0, "optimizer": 1, "all": 3}
_OFFLOAD_PRICE = {"none": 1.0, "optimizer": 1.3, "all": 1.6}
"""Roughly, for the order in which to try."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to compute a shape's global batch."""

    config: Config
    pass_tokens: float
    """Real tokens of one forward pass, on average."""
    memory: Memory | None
    """As predicted; None where the model's sizes are not known."""

    @property
    def levers(self) -> SystemConfig:
        return system_config_of(self.config)

    @property
    def rows(self) -> int:
        """Of a micro-batch."""
        return self.levers.per_device_batch_size

    @property
    def promise(self) -> float:
        """Expected speed, in parts of that of large passes without any price."""
        kind = "cuda" if self.config.resources.gpus_per_rank else "cpu"
        filled = self.pass_tokens / (self.pass_tokens + _HALF_SPEED_TOKENS[kind])
        price = _RECOMPUTED if self.levers.gradient_checkpointing else 1.0
        return filled / (price * _STAGE_PRICE[self.levers.zero_stage] * _OFFLOAD_PRICE[self.levers.offload])

    def fits(self, room_gib: float) -> bool:
        return self.memory is None or self.memory.total_gib <= room_gib * MEMORY_FRACTION


def system_configs(config: Config, measured: frozenset[str]) -> Iterator[Config]:
    """Every combination of the fields that may change (their paths are ``measured``), each with the same
    global batch."""
    of_a_rank = config.training.global_batch_size // config.parallel.dp
    as_it_is, names = system_config_of(config), {path.rpartition(".")[2] for path in measured}
    choices = {
        "zero_stage": _stages(config),
        "offload": list(_OFFLOAD_PRICE) if config.resources.gpus_per_rank else [as_it_is.offload],
        "gradient_checkpointing": [False, True],
        "per_device_batch_size": [rows for rows in range(1, of_a_rank + 1) if of_a_rank % rows == 0],
    }
    left = [each if name in names else [getattr(as_it_is, name)] for name, each in choices.items()]
    for stage, offload, recompute, rows in itertools.product(*left):
        if stage >= _LEAST_STAGE[offload]:
            yield with_system_config(
                config,
                zero_stage=stage,
                offload=offload,
                gradient_checkpointing=recompute,
                per_device_batch_size=rows,
                gradient_accumulation_steps=of_a_rank // rows,
            )


def first_probe(candidates: Sequence[Candidate], room_gib: float) -> Candidate | None:
    """The smallest of those that promise about as much as the best that fits; None where nothing fits.

    Where sizes are not known it is one row: what it needs says how many will fit.
    """
    fitting = [one for one in candidates if one.fits(room_gib)]
    if fitting and fitting[0].memory is not None:
        best = max(one.promise for one in fitting)
        fitting = [one for one in fitting if one.promise >= best * _GOOD_ENOUGH]
    return min(fitting, key=lambda one: (one.pass_tokens, -one.promise), default=None)


def next_probe(
    best: Candidate, measured: Sequence[SystemConfig], candidates: Sequence[Candidate], room_gib: float
) -> Candidate | None:
    """The neighbour of the fastest so far that is most likely to be faster, of those that fit.

    Another ZeRO stage first where several ranks share a model: which is fastest hangs on the network,
    that no formula knows. Then twice and half of the rows. Then checkpointing, where it lets more rows in.
    What rows and stages bring is a guess, the price of checkpointing is not: so much of the best's promise
    makes each of them worth a probe.
    """
    way = stage, recompute, offload = _way(best.levers)
    fitting = [one for one in _not_lost(best, measured, candidates) if one.fits(room_gib)]
    beside = [(stage + step, recompute, offload) for step in (-1, 1)]
    stages = [one for one in fitting if one.rows == best.rows and _way(one.levers) in beside]
    only_rows = [one for one in fitting if _way(one.levers) == way]
    more = [one for one in only_rows if one.rows > best.rows]
    fewer = [one for one in only_rows if one.rows < best.rows]
    recomputed = [one for one in fitting if _way(one.levers) == (stage, not recompute, offload)]
    proposals = (
        (max(stages, key=lambda one: one.promise, default=None), 0.8),
        (min(more, key=lambda one: abs(one.rows - 2 * best.rows), default=None), 0.8),
        (min(fewer, key=lambda one: abs(one.rows - best.rows / 2), default=None), 0.8),
        (max(recomputed, key=lambda one: one.promise, default=None), 0.9),
    )
    worth = (one for one, least in proposals if one is not None and one.promise > best.promise * least)
    return next(worth, None)


def _not_lost(
    best: Candidate, measured: Sequence[SystemConfig], candidates: Sequence[Candidate]
) -> Iterator[Candidate]:
    """A way that was measured to be slower is not tried again with other rows, and neither are rows beyond
    those that were slower: speed rises with them to one peak."""
    way = _way(best.levers)
    lost = {_way(one) for one in measured} - {way}
    tried = [one.per_device_batch_size for one in measured if _way(one) == way]
    fewest = max((rows for rows in tried if rows < best.rows), default=0)
    most = min((rows for rows in tried if rows > best.rows), default=math.inf)
    for one in candidates:
        is_between = _way(one.levers) != way or fewest < one.rows < most
        if one.levers not in measured and _way(one.levers) not in lost and is_between:
            yield one


def _way(levers: SystemConfig) -> tuple[int, bool, str]:
    """All but its rows."""
    return levers.zero_stage, levers.gradient_checkpointing, levers.offload


def _stages(config: Config) -> list[int]:
    """One rank has nobody to share with: stage 0 is the fastest there, and the others are for offload."""
    parallel = config.parallel
    least = 1 if parallel.tp > 1 and config.deepspeed.precision != "fp32" else 0
    if parallel.dp == 1:
        offloads = config.resources.gpus_per_rank and parallel.pp == 1
        return [least, 2, 3] if offloads else [least]
    return list(range(least, 2 if parallel.pp > 1 else 4))
