"""Filling in what a file leaves to the rules of thumb, for one trial or for the whole sweep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sweeper.space.config import rules
from sweeper.space.config.batch import complete_batch
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import leaves

__all__ = [
    "ALPHA",
    "ALPHA_RATIO",
    "BATCH",
    "HELD_OUT_ROWS",
    "RANK",
    "complete",
    "follows_per_trial",
    "with_defaults",
]

PER_DEVICE = "training.per_device_batch_size"
ACCUMULATION = "training.gradient_accumulation_steps"
GLOBAL = "training.global_batch_size"
DP = "parallel.dp"
RANK, ALPHA, ALPHA_RATIO = "training.lora.rank", "training.lora.alpha", "training.lora.alpha_ratio"
HELD_OUT_ROWS = "evaluation.held_out_rows"
BATCH = (PER_DEVICE, ACCUMULATION, GLOBAL)

_LORA = "training.lora"


def complete(known: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Every field's value: as known, else the models' default, else the rule of thumb.

    Args:
        known: path -> value; ``training.lora`` is False without adapters.
        facts: what the rules rest on.

    Raises:
        BatchContradiction: the known batch sizes do not agree.
    """
    flat = with_defaults(known)
    _close_alpha(flat)
    _close_training(flat, facts)
    _close_batch(flat, facts)
    stage = rules.zero_stage(flat["deepspeed.offload"], pp=flat["parallel.pp"])
    flat.setdefault("deepspeed.zero_stage", stage)
    flat.setdefault("deepspeed.precision", rules.precision(facts.accelerator))
    _close_resources(flat, facts)
    return flat


def with_defaults(known: Mapping[str, Any], opened: Collection[str] = ()) -> dict[str, Any]:
    """The known values and the models' defaults of other fields, but of none in ``opened``: what the rules
    close is absent."""
    no_lora = known.get(_LORA) is False
    follows = known.get(ALPHA_RATIO) is not None or ALPHA_RATIO in opened
    defaults = {
        path: leaf.default
        for path, leaf in leaves().items()
        if not (path in opened or leaf.ruled or leaf.required or (no_lora and path.startswith(f"{_LORA}.")))
        and not (follows and path == ALPHA)
    }
    return {**defaults, **known}


def _close_alpha(flat: dict[str, Any]) -> None:
    """A ratio gives way to what it comes to, so that two trials of one alpha are the same."""
    ratio = flat.get(ALPHA_RATIO)
    if ratio is not None:
        flat[ALPHA], flat[ALPHA_RATIO] = ratio * flat[RANK], None


def follows_per_trial(path: str, opened: frozenset[str], autos: frozenset[str]) -> bool:
    """Whether a field's value differs from trial to trial, because it follows from an open one; ``autos`` are
    the fields, this one among them, that are neither written nor open."""
    if path == "training.final_lr_ratio":
        return "training.scheduler" in opened
    if path == "deepspeed.zero_stage":
        return "deepspeed.offload" in opened
    if path == PER_DEVICE and GLOBAL in autos:
        return False  # memory sets it, not the trial: it stays the same while the others vary
    return path in BATCH and bool(opened & {*BATCH, DP})


def _close_training(flat: dict[str, Any], facts: Facts) -> None:
    lora = flat.get(_LORA) is not False
    flat.setdefault("training.lr", rules.lr(facts.hidden_size, lora=lora, model_type=facts.model_type))
    flat.setdefault("training.scheduler", rules.scheduler())
    flat.setdefault("training.final_lr_ratio", rules.final_lr_ratio(flat["training.scheduler"]))
    flat.setdefault("training.warmup_ratio", rules.warmup_ratio())
    flat.setdefault("training.decay_ratio", rules.decay_ratio())
    flat.setdefault("training.epochs", rules.epochs(facts.train_rows))
    flat.setdefault("training.max_seq_len", rules.max_seq_len(facts.max_position_embeddings))


def _close_batch(flat: dict[str, Any], facts: Facts) -> None:
    flat[GLOBAL], flat[PER_DEVICE], flat[ACCUMULATION] = complete_batch(
        global_batch=flat.get(GLOBAL),
        per_device=flat.get(PER_DEVICE),
        accumulation=flat.get(ACCUMULATION),
        dp=flat[DP],
        usual=rules.global_batch_size(facts.train_rows),
    )


def _close_resources(flat: dict[str, Any], facts: Facts) -> None:
    ranks = flat[DP] * flat["parallel.pp"] * flat["parallel.tp"]
    gpus = flat.setdefault("resources.gpus_per_rank", rules.gpus_per_rank(facts.accelerator))
    concurrent = flat.setdefault(
        "resources.max_concurrent",
        rules.max_concurrent(devices=facts.devices, cpus=facts.cpus, ranks=ranks, gpus=gpus),
    )
    flat.setdefault(
        "resources.cpus_per_rank",
        rules.cpus_per_rank(cpus=facts.cpus, ranks=ranks, concurrent=concurrent),
    )
