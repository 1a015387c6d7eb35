"""What no single field can tell: values that are each right and contradict one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.spec.batch import optimizer_steps
from sweeper.spec.facts import Facts

__all__ = ["GROUPS", "Contradiction", "contradictions"]

GROUPS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "training.scheduler",
            "training.final_lr_ratio",
            "training.warmup_ratio",
            "training.decay_ratio",
        }
    ),
    frozenset({"deepspeed.zero_stage", "deepspeed.offload"}),
    frozenset(
        {
            "training.global_batch_size",
            "training.gradient_accumulation_steps",
            "training.per_device_batch_size",
            "training.epochs",
            "parallel.dp",
        }
    ),
)
"""Fields that are checked together: their open values must agree in every combination."""

ROUNDING = 1e-9
"""0.7 and 0.3 may add up to a little more than 1."""


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """A value that does not go with the others."""

    path: str
    rule: str
    remedy: str


def contradictions(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    """Everything wrong with one complete set of values (path -> value)."""
    return [
        *_schedule(flat),
        *_memory(flat),
        *_parallel(flat),
        *_objective(flat),
        *_length(flat, facts),
        *_rows(flat, facts),
    ]


def _schedule(flat: Mapping[str, Any]) -> list[Contradiction]:
    scheduler = flat["training.scheduler"]
    warmup, decay = flat["training.warmup_ratio"], flat["training.decay_ratio"]
    if scheduler == "exponential" and flat["training.final_lr_ratio"] == 0:
        path = "training.final_lr_ratio"
        rule = "an exponential schedule never reaches 0: its final_lr_ratio is above 0"
        remedy = "write 0.05, or auto, or leave it out"
    elif scheduler == "wsd" and warmup + decay > 1 + ROUNDING:
        path = "training.decay_ratio"
        rule = f"warm-up ({warmup:.12g} of the steps) and decay ({decay:.12g}) overlap"
        remedy = "lower decay_ratio or warmup_ratio: together they are at most 1"
    else:
        return []
    return [Contradiction(path=path, rule=rule, remedy=remedy)]


def _memory(flat: Mapping[str, Any]) -> list[Contradiction]:
    stage, offload = flat["deepspeed.zero_stage"], flat["deepspeed.offload"]
    if offload == "all" and stage != 3:
        rule = f"offload: all moves parameters, which only zero_stage 3 partitions, not {stage}"
        remedy = "write zero_stage: 3, or offload: optimizer"
    elif offload == "optimizer" and stage == 0:
        rule = "offload: optimizer needs optimizer states that ZeRO partitions: zero_stage 1, 2 or 3"
        remedy = "write zero_stage: 2, or offload: none"
    else:
        return []
    return [Contradiction(path="deepspeed.offload", rule=rule, remedy=remedy)]


def _parallel(flat: Mapping[str, Any]) -> list[Contradiction]:
    names = {"pp": "pipeline", "tp": "tensor"}
    return [
        Contradiction(
            path=f"parallel.{key}",
            rule=f"this version has no {names[key]} parallelism: {key} is 1",
            remedy=f"write {key}: 1, and share a large model out with zero_stage: 3 and dp",
        )
        for key in names
        if flat[f"parallel.{key}"] != 1
    ]


def _objective(flat: Mapping[str, Any]) -> list[Contradiction]:
    metric, mode = flat["objective.metric"], flat["objective.mode"]
    better = "max" if metric == "eval/token_accuracy" else "min"
    if mode == better:
        return []
    rule = f"{metric} is better when {'higher' if better == 'max' else 'lower'}: its mode is {better}"
    return [Contradiction(path="objective.mode", rule=rule, remedy=f"write mode: {better}")]


def _length(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    limit, length = facts.max_position_embeddings, flat["training.max_seq_len"]
    if limit is None or length <= limit:
        return []
    rule = f"the model tells at most {limit} positions apart (max_position_embeddings), not {length}"
    return [Contradiction(path="training.max_seq_len", rule=rule, remedy=f"write max_seq_len: {limit}")]


def _rows(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    rows, epochs = facts.train_rows, flat["training.epochs"]
    global_batch = flat["training.global_batch_size"]
    if optimizer_steps(rows=rows, epochs=epochs, global_batch=global_batch) >= 1:
        return []
    rule = f"{rows} training rows x {epochs:g} epochs do not fill one global batch of {global_batch}"
    remedy = "give more rows or epochs, or a smaller batch or accumulation"
    return [Contradiction(path="training.global_batch_size", rule=rule, remedy=remedy)]
