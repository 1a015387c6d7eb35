"""What no single field can tell: values that are each right and contradict one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.space.config.batch import optimizer_steps
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import closest
from sweeper.space.metrics import EXACT_MATCH, better, metric_name, metric_names

__all__ = ["GROUPS", "STAGED", "Contradiction", "contradictions"]

STAGED = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""``model_type`` of the architectures that can be cut into pipeline stages."""

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
        *_parallel(flat, facts),
        *_objective(flat),
        *_evaluation(flat),
        *_length(flat, facts),
        *_cost(flat),
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


def _parallel(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    found = []
    if flat["parallel.pp"] > 1:
        found += [*_stages(flat["parallel.pp"], facts), *_beside_stages(flat)]
    if flat["parallel.tp"] > 1:
        found += _beside_shares(flat)
    return found


def _stages(pp: int, facts: Facts) -> list[Contradiction]:
    """Whether the model can be cut into so many; where it is not known here, the trial finds out."""
    if facts.model_type is not None and facts.model_type not in STAGED:
        rule = (
            f"the model is of the architecture {facts.model_type}; those that can be cut into pipeline "
            f"stages are {', '.join(STAGED)}"
        )
        remedy = "write pp: 1, and share a large model out with zero_stage: 3 and dp"
    elif facts.layers is not None and pp > facts.layers:
        rule = f"the model has {facts.layers} layers, and each of {pp} pipeline stages needs one"
        remedy = f"write pp: {facts.layers} or less"
    else:
        return []
    return [Contradiction(path="parallel.pp", rule=rule, remedy=remedy)]


def _beside_stages(flat: Mapping[str, Any]) -> list[Contradiction]:
    """What DeepSpeed does not do in a pipeline."""
    found = []
    stage, offload = flat["deepspeed.zero_stage"], flat["deepspeed.offload"]
    if flat["parallel.tp"] > 1:
        rule = (
            "DeepSpeed's AutoTP shares out a model that is whole on each rank, which a pipeline's is not: "
            "with pp above 1, tp is 1"
        )
        found.append(Contradiction(path="parallel.tp", rule=rule, remedy="write tp: 1, or pp: 1"))
    if offload == "all":
        rule = "offload: all needs zero_stage 3, which DeepSpeed's pipeline engine does not have"
        found.append(Contradiction(path="deepspeed.offload", rule=rule, remedy="write offload: none"))
    elif stage > 1:
        rule = (
            "DeepSpeed's pipeline engine partitions neither gradients nor parameters: with pp above 1, "
            f"zero_stage is 0 or 1, not {stage}"
        )
        found.append(Contradiction(path="deepspeed.zero_stage", rule=rule, remedy="write zero_stage: 1"))
    return found


def _beside_shares(flat: Mapping[str, Any]) -> list[Contradiction]:
    """What DeepSpeed does not do where matrices are shared out."""
    found = []
    if flat.get("training.lora") is not False:
        rule = "DeepSpeed's AutoTP replaces the layers that adapters are put on: with lora, tp is 1"
        found.append(Contradiction(path="parallel.tp", rule=rule, remedy="write tp: 1, or lora: false"))
    stage, precision = flat["deepspeed.zero_stage"], flat["deepspeed.precision"]
    if stage == 0 and precision != "fp32":
        rule = (
            f"without ZeRO and in {precision}, DeepSpeed clips each rank's share of the gradient by itself: "
            "with tp above 1, zero_stage is 1, 2 or 3"
        )
        found.append(Contradiction(path="deepspeed.zero_stage", rule=rule, remedy="write zero_stage: 1"))
    return found


def _objective(flat: Mapping[str, Any]) -> list[Contradiction]:
    metric, mode = flat["objective.metric"], flat["objective.mode"]
    known = metric_names(flat["evaluation.metrics"])
    if metric not in known:
        return [_unknown_metric(metric, known), *_best_states(flat)]
    right = better(metric)
    if right is None or mode == right:
        return _best_states(flat)
    rule = f"{metric} is better when {'higher' if right == 'max' else 'lower'}: its mode is {right}"
    return [
        Contradiction(path="objective.mode", rule=rule, remedy=f"write mode: {right}"),
        *_best_states(flat),
    ]


def _best_states(flat: Mapping[str, Any]) -> list[Contradiction]:
    """The model of the best evaluation is that of its state."""
    rule = "with objective.at: best the state of a trial's best evaluation is kept, which holds its model"
    if flat["objective.at"] == "end":
        return []
    found = []
    if not flat["checkpoints.keep_last"]:
        path, remedy = "checkpoints.keep_last", "write keep_last: 1, or at: end"
        found.append(Contradiction(path=path, rule=rule, remedy=remedy))
    if not flat["checkpoints.keep_best"]:
        path, remedy = "checkpoints.keep_best", "write keep_best: true, or at: end"
        found.append(Contradiction(path=path, rule=rule, remedy=remedy))
    return found


def _unknown_metric(metric: str, known: tuple[str, ...]) -> Contradiction:
    near = closest(metric.removeprefix("eval/"), [one.removeprefix("eval/") for one in known])
    remedy = "write one of them, or add the function to evaluation.metrics as package.module:function"
    return Contradiction(
        path="objective.metric",
        rule=f"is none of the metrics that there are: {', '.join(known)}",
        remedy=f"did you mean eval/{near}?" if near else remedy,
    )


def _evaluation(flat: Mapping[str, Any]) -> list[Contradiction]:
    entries, path = flat["evaluation.metrics"], "evaluation.metrics"
    found = [
        Contradiction(
            path=path,
            rule=f"the name of {entry}, {metric_name(entry)}, is taken",
            remedy=f"name {entry} once" if entry in entries[:index] else f"rename the function of {entry}",
        )
        for index, entry in enumerate(entries)
        if _is_taken(entry, entries[:index])
    ]
    generates = entries or flat["objective.metric"] == metric_name(EXACT_MATCH)
    if generates and flat["parallel.pp"] > 1:
        place = path if entries else "objective.metric"
        rule = "answers are generated by a whole model, and no rank of a pipeline has one"
        found.append(Contradiction(path=place, rule=rule, remedy="write pp: 1, or another metric"))
    return found


def _is_taken(entry: str, earlier: Sequence[str]) -> bool:
    name = metric_name(entry)
    is_standard = entry != EXACT_MATCH and better(name) is not None
    return is_standard or name in map(metric_name, earlier)


def _length(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    limit, length = facts.max_position_embeddings, flat["training.max_seq_len"]
    if limit is None or length <= limit:
        return []
    rule = f"the model tells at most {limit} positions apart (max_position_embeddings), not {length}"
    return [Contradiction(path="training.max_seq_len", rule=rule, remedy=f"write max_seq_len: {limit}")]


def _cost(flat: Mapping[str, Any]) -> list[Contradiction]:
    if flat["search.cost_budget"] is None or flat["resources.price_per_gpu_hour"] is not None:
        return []
    rule = "what a sweep costs is not known without a price: resources.price_per_gpu_hour is missing"
    remedy = "write price_per_gpu_hour under resources, or use search.time_budget"
    return [Contradiction(path="search.cost_budget", rule=rule, remedy=remedy)]


def _rows(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    if not (facts.train_rows and facts.eval_rows):
        return [_nothing_left(flat, facts)]
    rows, epochs = facts.train_rows, flat["training.epochs"]
    global_batch = flat["training.global_batch_size"]
    if optimizer_steps(rows=rows, epochs=epochs, global_batch=global_batch) >= 1:
        return []
    rule = f"{rows} training rows x {epochs:g} epochs do not fill one global batch of {global_batch}"
    remedy = "give more rows or epochs, or a smaller batch or accumulation"
    return [Contradiction(path="training.global_batch_size", rule=rule, remedy=remedy)]


def _nothing_left(flat: Mapping[str, Any], facts: Facts) -> Contradiction:
    kind, length = "held-out" if facts.train_rows else "training", flat["training.max_seq_len"]
    whole = flat["training.overlong"] == "drop"
    share = facts.rows_too_long / (facts.rows_too_long + facts.train_rows + facts.eval_rows)
    rule = f"no {kind} row {'is so short' if whole else f'has an answer within {length} tokens'}"
    rule += f", and {share:.0%} of all rows are left out for that"
    remedy = "raise max_seq_len"
    if facts.enough_tokens:
        most, nearly_all = facts.enough_tokens
        remedy += f": {most} would keep 95 % of the rows, {nearly_all} would keep 99 %"
    return Contradiction(path="training.max_seq_len", rule=rule, remedy=remedy)
