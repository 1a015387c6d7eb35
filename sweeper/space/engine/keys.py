"""What other trainers call our settings: one table for each, of what is one value for one value.

Used where a trainer runs as the trial, and where an answer is written as its file (``recommend/exports``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "AXOLOTL_KEYS",
    "BATCH_KEYS",
    "LLAMAFACTORY_KEYS",
    "OPENRLHF_KEYS",
    "TRAINER_KEYS",
    "TRL_KEYS",
    "Key",
    "inverted",
    "same",
    "whole",
]


def same(value: Any) -> Any:
    return value


def inverted(value: bool) -> bool:
    """For a switch that says the opposite, such as LLaMA-Factory's ``disable_gradient_checkpointing``."""
    if not isinstance(value, bool):
        raise ValueError(value)
    return not value


def whole(epochs: float) -> int:
    """For a trainer that takes whole epochs only."""
    return max(1, math.ceil(epochs))


class Key(NamedTuple):
    """One line of a table: a setting that both have."""

    ours: str
    """Path: ``training.lr``."""
    theirs: str
    """Dotted where it stands in a section, or as a command line has it, without the dashes."""
    write: Callable[[Any], Any] = same
    read: Callable[[Any], Any] = same
    """Back; ValueError for what is none of its values."""


TRAINER_KEYS = (
    Key("training.lr", "learning_rate"),
    Key("training.weight_decay", "weight_decay"),
    Key("training.adam_beta1", "adam_beta1"),
    Key("training.adam_beta2", "adam_beta2"),
    Key("training.adam_epsilon", "adam_epsilon"),
    Key("training.max_grad_norm", "max_grad_norm"),
    Key("training.seed", "seed"),
)
BATCH_KEYS = (
    Key("training.epochs", "num_train_epochs"),
    Key("training.per_device_batch_size", "per_device_train_batch_size"),
    Key("training.gradient_accumulation_steps", "gradient_accumulation_steps"),
)
TRL_KEYS = (
    Key("model_path", "model_name_or_path"),
    *TRAINER_KEYS,
    *BATCH_KEYS,
    Key("training.max_seq_len", "max_length"),
    Key("training.packing", "packing"),
    Key("training.lora.rank", "lora_r"),
    Key("training.lora.dropout", "lora_dropout"),
    Key("deepspeed.gradient_checkpointing", "gradient_checkpointing"),
    Key("trust_remote_code", "trust_remote_code"),
)
OPENRLHF_KEYS = (
    Key("model_path", "model.model_name_or_path"),
    Key("training.lr", "adam.lr"),
    Key("training.adam_epsilon", "adam.eps"),
    Key("training.weight_decay", "adam.weight_decay"),
    Key("training.max_grad_norm", "max_norm"),
    Key("training.warmup_ratio", "lr_warmup_ratio"),
    Key("training.epochs", "train.max_epochs", whole),
    Key("training.global_batch_size", "train.batch_size"),
    Key("training.per_device_batch_size", "train.micro_batch_size"),
    Key("training.max_seq_len", "data.max_len"),
    Key("training.packing", "ds.packing_samples"),
    Key("training.seed", "train.seed"),
    Key("training.lora.rank", "ds.lora.rank"),
    Key("training.lora.dropout", "ds.lora.dropout"),
    Key("deepspeed.zero_stage", "ds.zero_stage"),
    Key("deepspeed.gradient_checkpointing", "model.gradient_checkpointing_enable"),
    Key("parallel.tp", "ds.tensor_parallel_size"),
)
LLAMAFACTORY_KEYS = (
    Key("model_path", "model_name_or_path"),
    *TRAINER_KEYS,
    *BATCH_KEYS,
    Key("training.max_seq_len", "cutoff_len"),
    Key("training.packing", "neat_packing"),
    Key("training.lora.rank", "lora_rank"),
    Key("training.lora.dropout", "lora_dropout"),
    Key("deepspeed.gradient_checkpointing", "disable_gradient_checkpointing", inverted, inverted),
    Key("trust_remote_code", "trust_remote_code"),
)
AXOLOTL_KEYS = (
    Key("model_path", "base_model"),
    *TRAINER_KEYS,
    Key("training.epochs", "num_epochs"),
    Key("training.per_device_batch_size", "micro_batch_size"),
    Key("training.gradient_accumulation_steps", "gradient_accumulation_steps"),
    Key("training.max_seq_len", "sequence_len"),
    Key("training.packing", "sample_packing"),
    Key("training.lora.rank", "lora_r"),
    Key("training.lora.dropout", "lora_dropout"),
    Key("deepspeed.gradient_checkpointing", "gradient_checkpointing"),
    Key("trust_remote_code", "trust_remote_code"),
)
