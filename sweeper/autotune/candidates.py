"""Which system configurations a shape can have, which of them fit, and which are worth a probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sweeper.autotune.estimate.memory_model import Memory
from sweeper.space import Config, SystemConfig, system_config_of, with_system_config

__all__ = ["Candidate", "candidates_of", "first_probe", "next_probe"]

ROOM = 0.95
"""Share of what a rank may hold that a candidate may be predicted to need."""
_HALF_SPEED_TOKENS = {"cpu": 32, "cuda": 512}
"""Tokens of a pass at which half of its time is overhead: where to begin, no more; probes decide."""
_GOOD_ENOUGH = 0.97
_RECOMPUTED = 4 / 3
"""A pass with gradient checkpointing computes forward once more: three thirds of a pass become four."""
_STAGE_PRICE = (1.0, 1.0, 1.02, 1.2)
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
    def promise(self) -> float:
        """Expected speed, in parts of that of large passes without any price."""
        kind = "cuda" if self.config.resources.gpus_per_rank else "cpu"
        filled = self.pass_tokens / (self.pass_tokens + _HALF_SPEED_TOKENS[kind])
        price = _RECOMPUTED if self.levers.gradient_checkpointing else 1.0
        return filled / (price * _STAGE_PRICE[self.levers.zero_stage] * _OFFLOAD_PRICE[self.levers.offload])

    def fits(self, room_gib: float) -> bool:
        return self.memory is None or self.memory.total_gib <= room_gib * ROOM


def candidates_of(
    config: Config,
    measured: frozenset[str],
    describe: Callable[[Config], tuple[float, Memory | None]],
) -> list[Candidate]:
    """Every combination of what was left to measuring; each with the same global batch.

    Args:
        measured: paths of the fields that may change.
        describe: tokens of a pass on average, and the memory that a rank needs.
    """
    found = []
    for changed in _systems(config, measured):
        for rows in _row_counts(config, measured):
            of_a_rank = config.training.global_batch_size // config.parallel.dp
            split = with_system_config(
                changed, per_device_batch_size=rows, gradient_accumulation_steps=of_a_rank // rows
            )
            tokens, memory = describe(split)
            found.append(Candidate(config=split, pass_tokens=tokens, memory=memory))
    return found


def first_probe(candidates: Sequence[Candidate], room_gib: float) -> Candidate | None:
    """The smallest of those that promise about as much as the best that fits; None where nothing fits.

    Where sizes are not known it is one row: what it needs says how many will fit.
    """
    fitting = [one for one in candidates if one.fits(room_gib)]
    if not fitting:
        return None
    if fitting[0].memory is None:
        return min(fitting, key=lambda one: (one.pass_tokens, -one.promise))
    best = max(one.promise for one in fitting)
    good = [one for one in fitting if one.promise >= best * _GOOD_ENOUGH]
    return min(good, key=lambda one: (one.pass_tokens, -one.promise))


def next_probe(
    best: Candidate, measured: Sequence[Candidate], candidates: Sequence[Candidate], room_gib: float
) -> Candidate | None:
    """The neighbour of the fastest so far that is most likely to be faster, of those that fit.

    Another ZeRO stage first where several ranks share a model: which is fastest hangs on the network,
    that no formula knows. Then twice and half of the rows. Then checkpointing, where it lets more rows in.
    A way that was measured to be slower is not tried again with other rows, and neither are rows beyond those
    that were slower: speed rises with them to one peak.
    """
    lost = {_way(one) for one in measured} - {_way(best)}
    seen = [one.levers for one in measured]
    fewer, more = _slower_rows(best, measured)
    fitting = [
        one
        for one in candidates
        if one.fits(room_gib)
        and one.levers not in seen
        and _way(one) not in lost
        and (_way(one) != _way(best) or fewer < one.levers.per_device_batch_size < more)
    ]
    for near, least in _NEIGHBOURS:
        found = near(best, fitting)
        if found is not None and found.promise > best.promise * least:
            return found
    return None


def _way(candidate: Candidate) -> tuple[int, bool, str]:
    """All but its rows."""
    levers = candidate.levers
    return levers.zero_stage, levers.gradient_checkpointing, levers.offload


def _slower_rows(best: Candidate, measured: Sequence[Candidate]) -> tuple[float, float]:
    """The most rows below the fastest's and the fewest above them that were measured, and so were slower."""
    rows = best.levers.per_device_batch_size
    tried = [one.levers.per_device_batch_size for one in measured if _way(one) == _way(best)]
    fewer = max((one for one in tried if one < rows), default=0)
    more = min((one for one in tried if one > rows), default=math.inf)
    return fewer, more


def _other_stage(best: Candidate, fitting: Sequence[Candidate]) -> Candidate | None:
    same = [
        one
        for one in fitting
        if _differ(one, best) == {"zero_stage"} and abs(one.levers.zero_stage - best.levers.zero_stage) == 1
    ]
    return max(same, key=lambda one: one.promise, default=None)


def _more_rows(best: Candidate, fitting: Sequence[Candidate]) -> Candidate | None:
    rows = best.levers.per_device_batch_size
    more = [one for one in _only_rows(best, fitting) if one.levers.per_device_batch_size > rows]
    return min(more, key=lambda one: abs(one.levers.per_device_batch_size - 2 * rows), default=None)


def _fewer_rows(best: Candidate, fitting: Sequence[Candidate]) -> Candidate | None:
    rows = best.levers.per_device_batch_size
    fewer = [one for one in _only_rows(best, fitting) if one.levers.per_device_batch_size < rows]
    return min(fewer, key=lambda one: abs(one.levers.per_device_batch_size - rows / 2), default=None)


def _recomputed(best: Candidate, fitting: Sequence[Candidate]) -> Candidate | None:
    """With the other choice of checkpointing, and the rows that promise most."""
    other = [one for one in fitting if "gradient_checkpointing" in _differ(one, best)]
    same = [one for one in other if _differ(one, best) <= {"gradient_checkpointing", "rows"}]
    return max(same, key=lambda one: one.promise, default=None)


_NEIGHBOURS = ((_other_stage, 0.8), (_more_rows, 0.8), (_fewer_rows, 0.8), (_recomputed, 0.9))
"""And the share of the best's promise that makes them worth a probe: what rows and stages bring is a guess,
the price of checkpointing is not."""


def _only_rows(best: Candidate, fitting: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in fitting if _differ(one, best) == {"rows"}]


def _differ(one: Candidate, other: Candidate) -> set[str]:
    a, b = one.levers, other.levers
    names = ("zero_stage", "gradient_checkpointing", "offload")
    differing = {name for name in names if getattr(a, name) != getattr(b, name)}
    return differing | ({"rows"} if a.per_device_batch_size != b.per_device_batch_size else set())


def _systems(config: Config, measured: frozenset[str]) -> Iterator[Config]:
    """Every legal combination of ZeRO stage, checkpointing and offload among those that may change."""
    stages = _stages(config) if "deepspeed.zero_stage" in measured else [config.deepspeed.zero_stage]
    recomputes = [False, True]
    if "deepspeed.gradient_checkpointing" not in measured:
        recomputes = [config.deepspeed.gradient_checkpointing]
    offloads = [config.deepspeed.offload]
    if "deepspeed.offload" in measured and config.resources.gpus_per_rank:
        offloads = ["none", "optimizer", "all"]
    for stage in stages:
        for offload in offloads:
            if (offload == "optimizer" and stage == 0) or (offload == "all" and stage < 3):
                continue
            for recompute in recomputes:
                yield with_system_config(
                    config, zero_stage=stage, offload=offload, gradient_checkpointing=recompute
                )


def _stages(config: Config) -> list[int]:
    """One rank has nobody to share with: stage 0 is the fastest there, and the others are for offload."""
    parallel = config.parallel
    least = 1 if parallel.tp > 1 and config.deepspeed.precision != "fp32" else 0
    if parallel.dp == 1:
        offloads = config.resources.gpus_per_rank and parallel.pp == 1
        return [least, 2, 3] if offloads else [least]
    return list(range(least, 2 if parallel.pp > 1 else 4))


def _row_counts(config: Config, measured: frozenset[str]) -> list[int]:
    if "training.per_device_batch_size" not in measured:
        return [config.training.per_device_batch_size]
    of_a_rank = config.training.global_batch_size // config.parallel.dp
    return [rows for rows in range(1, of_a_rank + 1) if of_a_rank % rows == 0]
