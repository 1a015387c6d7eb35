"""What makes a trial need less memory and computes the same: the levers, in the order of their price.

First half the micro-batch and twice the accumulation, down to one row: the global batch stays what was
asked, to the row. Then gradient checkpointing, then a higher ZeRO stage where there are several
replicas, then offload where there is a device to take from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.space.config.config import Config
from sweeper.space.versions import lasting_tree

__all__ = [
    "SYSTEM",
    "SystemConfig",
    "TooLarge",
    "fitted",
    "next_memory_fallback",
    "split_of",
    "system_config_of",
    "with_system",
    "with_system_config",
]

SYSTEM = frozenset(
    {
        "training.per_device_batch_size",
        "training.packing",
        "deepspeed.zero_stage",
        "deepspeed.gradient_checkpointing",
        "deepspeed.offload",
    }
)
"""Paths of the fields for which ``auto`` means: whatever is fastest and fits."""

_OFFLOADS = ("none", "optimizer", "all")


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """The settings that may change."""

    per_device_batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    zero_stage: Literal[0, 1, 2, 3]
    offload: Literal["none", "optimizer", "all"]

    def needs_no_less_than(self, other: SystemConfig) -> bool:
        """Whether what did not fit with the other cannot fit with these."""
        return (
            self.per_device_batch_size >= other.per_device_batch_size
            and self.gradient_checkpointing <= other.gradient_checkpointing
            and self.zero_stage <= other.zero_stage
            and _OFFLOADS.index(self.offload) <= _OFFLOADS.index(other.offload)
        )


@dataclass(frozen=True, kw_only=True)
class TooLarge:
    """What was learned from one that did not fit."""

    shape: str
    levers: SystemConfig

    @classmethod
    def of(cls, config: Config) -> TooLarge:
        return cls(shape=shape_of(config), levers=system_config_of(config))


def shape_of(config: Config) -> str:
    """Everything that memory depends on apart from these settings, as a text to compare."""
    training, lora = config.training, config.training.lora
    shape = {
        "model": config.model_path,
        "max_seq_len": training.max_seq_len,
        "packing": training.packing,
        "lora": [lora.rank, lora.targets] if lora else None,
        "precision": config.deepspeed.precision,
        "ds": config.deepspeed.config,
        "parallel": lasting_tree(config.parallel, "parallel"),
        "gpus_per_rank": config.resources.gpus_per_rank,
        "memory_limit_gib": config.resources.memory_limit_gib,
    }
    if config.engine is not None:
        told = {key: value for key, value in config.engine.values.items() if isinstance(value, (int, float))}
        shape["engine"] = [config.engine.command, told]
    return json.dumps(shape, sort_keys=True)


def system_config_of(config: Config) -> SystemConfig:
    training, memory = config.training, config.deepspeed
    return SystemConfig(
        per_device_batch_size=training.per_device_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        gradient_checkpointing=memory.gradient_checkpointing,
        zero_stage=memory.zero_stage,
        offload=memory.offload,
    )


def with_system_config(config: Config, **changes: Any) -> Config:
    """The configuration with some of these settings changed."""
    training = {name: value for name, value in changes.items() if name in type(config.training).model_fields}
    memory = {name: value for name, value in changes.items() if name not in training}
    return config.model_copy(
        update={
            "training": config.training.model_copy(update=training),
            "deepspeed": config.deepspeed.model_copy(update=memory),
        }
    )


def split_of(config: Config, most_rows: int) -> tuple[int, int]:
    """Micro-batch and accumulation of the same global batch: the most rows that divide a rank's part of it
    and are no more than ``most_rows``."""
    of_a_rank = config.training.global_batch_size // config.parallel.dp
    rows = max(n for n in range(1, min(most_rows, of_a_rank) + 1) if of_a_rank % n == 0)
    return rows, of_a_rank // rows


def with_system(config: Config, levers: SystemConfig, measured: frozenset[str]) -> Config:
    """The configuration as fast as was measured, in those of the fields (paths) that were left to it; its
    global batch is what it was, to the row."""
    changes: dict[str, Any] = {
        name: getattr(levers, name)
        for name in ("gradient_checkpointing", "zero_stage", "offload")
        if f"deepspeed.{name}" in measured
    }
    if "training.per_device_batch_size" in measured:
        rows, accumulation = split_of(config, levers.per_device_batch_size)
        changes |= {"per_device_batch_size": rows, "gradient_accumulation_steps": accumulation}
    return with_system_config(config, **changes)


def next_memory_fallback(config: Config) -> Config | None:
    """The same training with the next of them changed; None where all are."""
    steps: tuple[Callable[[Config], dict[str, Any]], ...] = (
        _fewer_rows,
        _checkpointed,
        _higher_stage,
        _offloaded,
    )
    if config.engine is not None:  # another trainer's levers are its own, but for how a batch is split
        steps = (_fewer_rows,) if config.engine.splits_batch else ()
    for step in steps:
        if changes := step(config):
            return with_system_config(config, **changes)
    return None


def fitted(config: Config, known: Sequence[TooLarge]) -> Config:
    """The configuration, made as light as what is known about its shape demands."""
    shape = shape_of(config)
    limits = [one.levers for one in known if one.shape == shape]
    while any(system_config_of(config).needs_no_less_than(limit) for limit in limits):
        smaller = next_memory_fallback(config)
        if smaller is None:
            break
        config = smaller
    return config


def _fewer_rows(config: Config) -> dict[str, Any]:
    """Half of the rows, or the most below that which divide the rows of a rank."""
    rows = config.training.per_device_batch_size
    if rows == 1:
        return {}
    fewer, accumulation = split_of(config, rows // 2)
    return {"per_device_batch_size": fewer, "gradient_accumulation_steps": accumulation}


def _checkpointed(config: Config) -> dict[str, Any]:
    return {} if config.deepspeed.gradient_checkpointing else {"gradient_checkpointing": True}


def _higher_stage(config: Config) -> dict[str, Any]:
    """ZeRO partitions among replicas: one alone has nothing to partition."""
    stage, highest = config.deepspeed.zero_stage, 1 if config.parallel.pp > 1 else 3
    return {"zero_stage": stage + 1} if config.parallel.dp > 1 and stage < highest else {}


def _offloaded(config: Config) -> dict[str, Any]:
    """To the host's memory, where that is not what the rank trains in; parameters only with ZeRO-3."""
    offload, stage = config.deepspeed.offload, config.deepspeed.zero_stage
    if not config.resources.gpus_per_rank or offload == "all":
        return {}
    if offload == "none":
        return {"offload": "optimizer", "zero_stage": max(stage, 1 if config.parallel.pp > 1 else 2)}
    return {} if config.parallel.pp > 1 else {"offload": "all", "zero_stage": 3}
