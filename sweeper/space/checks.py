"""What no single field can tell: values that are each right and contradict one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.space.config.batch import optimizer_steps
from sweeper.space.config.config import HARNESS
from sweeper.space.config.environment import written_secrets
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import closest
from sweeper.space.metrics import (
    EXACT_MATCH,
    RETENTION,
    better,
    logged_metrics,
    metric_name,
    metric_names,
)

__all__ = ["GROUPS", "STAGED", "Contradiction", "contradictions"]

STAGED = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""``model_type`` of the architectures that can be cut into pipeline stages."""

GROUPS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "training.scheduler",
            "training.final_lr_ratio",
            "training.warmup_ratio",
            "training.warmup_steps",
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


class Contradiction(NamedTuple):
    """A value that does not go with the others."""

    path: str
    rule: str
    remedy: str


def contradictions(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    """Everything wrong with one complete set of values (path -> value)."""
    if flat.get("engine") is not None:
        return [*_engine(flat), *_cost(flat), *_secrets(flat)]
    return [
        *_schedule(flat),
        *_memory(flat),
        *_pipeline(flat, facts),
        *_tensor_parallel(flat),
        *_shared_gpu(flat),
        *_objective(flat),
        *_second_objective(flat),
        *_constraints(flat),
        *_best_states(flat),
        *_evaluation(flat),
        *_length(flat, facts),
        *_cost(flat),
        *_secrets(flat),
        *_rows(flat, facts),
        *_proxy(flat, facts),
    ]


def _engine(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    """With another trainer most of what contradicts is for it to find; see ``engine/settling.py``."""
    metric, limit = flat["objective.metric"], flat["resources.memory_limit_gib"]
    if (right := better(metric)) not in (None, flat["objective.mode"]):
        rule = f"{metric} is better when {'higher' if right == 'max' else 'lower'}: its mode is {right}"
        yield Contradiction("objective.mode", rule, f"write mode: {right}")
    if limit is not None and flat["resources.gpus_per_rank"]:
        rule = "what an engine's processes take of a GPU cannot be limited from outside"
        yield Contradiction("resources.memory_limit_gib", rule, "leave it out")


def _schedule(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    scheduler = flat["training.scheduler"]
    warmup, decay = flat["training.warmup_ratio"], flat["training.decay_ratio"]
    if scheduler == "exponential" and flat["training.final_lr_ratio"] == 0:
        rule = "an exponential schedule never reaches 0: its final_lr_ratio is above 0"
        yield Contradiction("training.final_lr_ratio", rule, "write 0.05, or auto, or leave it out")
    elif scheduler == "wsd" and flat["training.warmup_steps"] is None and warmup + decay > 1 + ROUNDING:
        rule = f"warm-up ({warmup:.12g} of the steps) and decay ({decay:.12g}) overlap"
        remedy = "lower decay_ratio or warmup_ratio: together they are at most 1"
        yield Contradiction("training.decay_ratio", rule, remedy)


def _memory(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    stage, offload = flat["deepspeed.zero_stage"], flat["deepspeed.offload"]
    if offload == "all" and stage != 3:
        rule = f"offload: all moves parameters, which only zero_stage 3 partitions, not {stage}"
        yield Contradiction("deepspeed.offload", rule, "write zero_stage: 3, or offload: optimizer")
    elif offload == "optimizer" and stage == 0:
        rule = "offload: optimizer needs optimizer states that ZeRO partitions: zero_stage 1, 2 or 3"
        yield Contradiction("deepspeed.offload", rule, "write zero_stage: 2, or offload: none")


def _pipeline(flat: Mapping[str, Any], facts: Facts) -> Iterator[Contradiction]:
    """Whether the model can be cut into so many stages (where it is not known here, the trial finds out),
    and what DeepSpeed does not do in a pipeline."""
    pp, stage, offload = flat["parallel.pp"], flat["deepspeed.zero_stage"], flat["deepspeed.offload"]
    if pp == 1:
        return
    if facts.model_type is not None and facts.model_type not in STAGED:
        rule = (
            f"the model is of the architecture {facts.model_type}; those that can be cut into pipeline "
            f"stages are {', '.join(STAGED)}"
        )
        remedy = "write pp: 1, and share a large model out with zero_stage: 3 and dp"
        yield Contradiction("parallel.pp", rule, remedy)
    elif facts.layers is not None and pp > facts.layers:
        rule = f"the model has {facts.layers} layers, and each of {pp} pipeline stages needs one"
        yield Contradiction("parallel.pp", rule, f"write pp: {facts.layers} or less")
    if flat["parallel.tp"] > 1:
        rule = (
            "DeepSpeed's AutoTP shares out a model that is whole on each rank, which a pipeline's is not: "
            "with pp above 1, tp is 1"
        )
        yield Contradiction("parallel.tp", rule, "write tp: 1, or pp: 1")
    if offload == "all":
        rule = "offload: all needs zero_stage 3, which DeepSpeed's pipeline engine does not have"
        yield Contradiction("deepspeed.offload", rule, "write offload: none")
    elif stage > 1:
        rule = (
            "DeepSpeed's pipeline engine partitions neither gradients nor parameters: with pp above 1, "
            f"zero_stage is 0 or 1, not {stage}"
        )
        yield Contradiction("deepspeed.zero_stage", rule, "write zero_stage: 1")


def _tensor_parallel(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    """What DeepSpeed does not do under tensor parallelism."""
    if flat["parallel.tp"] == 1:
        return
    if flat.get("training.lora") is not False:
        rule = "DeepSpeed's AutoTP replaces the layers that adapters are put on: with lora, tp is 1"
        yield Contradiction("parallel.tp", rule, "write tp: 1, or lora: false")
    precision = flat["deepspeed.precision"]
    if flat["deepspeed.zero_stage"] == 0 and precision != "fp32":
        rule = (
            f"without ZeRO and in {precision}, DeepSpeed clips each rank's share of the gradient by itself: "
            "with tp above 1, zero_stage is 1, 2 or 3"
        )
        yield Contradiction("deepspeed.zero_stage", rule, "write zero_stage: 1")


def _shared_gpu(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    """nccl refuses two ranks of one group on one GPU, and Ray may put shares of one trial there."""
    share = flat["resources.gpus_per_rank"]
    if 0 < share < 1 and math.prod(flat[f"parallel.{name}"] for name in ("dp", "pp", "tp")) > 1:
        rule = f"several ranks of a trial cannot share a GPU, and {share:g} of one is a share"
        yield Contradiction("resources.gpus_per_rank", rule, "write 1, or trials of one rank")


def _objective(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    metric = flat["objective.metric"]
    known = metric_names(flat["evaluation.metrics"], flat["evaluation.retention"])
    if metric not in known:
        near = closest(metric.removeprefix("eval/"), [one.removeprefix("eval/") for one in known])
        remedy = "write one of them, or add the function to evaluation.metrics as package.module:function"
        yield Contradiction(
            "objective.metric",
            f"is none of the metrics that there are: {', '.join(known)}",
            "write retention: auto under evaluation, or a path to rows"
            if metric in RETENTION
            else f"did you mean eval/{near}?"
            if near
            else remedy,
        )
    elif (right := better(metric)) not in (None, flat["objective.mode"]):
        rule = f"{metric} is better when {'higher' if right == 'max' else 'lower'}: its mode is {right}"
        yield Contradiction("objective.mode", rule, f"write mode: {right}")


def _second_objective(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Whether there are two objectives to weigh against each other, and nothing ends a trial by one alone."""
    metric, also = flat["objective.metric"], flat["objective.also"]
    if also is None:
        return
    known = metric_names(flat["evaluation.metrics"], flat["evaluation.retention"])
    if also == metric or {metric, also} == {"eval/loss", "eval/perplexity"}:
        rule = f"{also} orders the trials as the first objective, {metric}, does: there is nothing to weigh"
        yield Contradiction("objective.also", rule, "write a cost, such as gpu_seconds, or leave it out")
    elif also.startswith("eval/") and also not in known:
        rule = f"is none of the metrics that there are: {', '.join(known)}"
        yield Contradiction("objective.also", rule, "write one of them, or gpu_seconds, peak_memory, tokens")
    elif better(also) is None:
        rule = "whether more or less of it is better is not known of a function of your own"
        remedy = f"write it as metric, with its mode beside it, and also: {metric}"
        yield Contradiction("objective.also", rule, remedy)
    if flat["search.sampler"] == "cmaes":
        rule = "cmaes has one objective"
        yield Contradiction("search.sampler", rule, "write auto, tpe or gp")
    if (stopper := flat["search.stopper"]) in ("asha", "hyperband", "median"):
        rule = (
            f"{stopper} stops what is behind by {metric} alone, however little it costs: with two objectives"
        )
        yield Contradiction("search.stopper", f"{rule} it would cut the front", "write auto or none")


def _constraints(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Whether all that is to be kept to is measured."""
    entries, retention = flat["evaluation.metrics"], flat["evaluation.retention"]
    known = logged_metrics(entries, retention)
    for metric in flat["objective.constraints"] or ():
        if metric in known:
            continue
        rule = f"{metric} is none of the metrics that there are: {', '.join(known)}"
        near = closest(metric, known)
        remedy = f"did you mean {near}?" if near else "write one of them"
        if metric in RETENTION:
            remedy = "write retention: auto under evaluation, or a path to rows"
        yield Contradiction("objective.constraints", rule, remedy)


def _best_states(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    """The model of the best evaluation is that of its state."""
    if flat["objective.at"] == "end":
        return
    rule = "with objective.at: best the state of a trial's best evaluation is kept, which holds its model"
    if not flat["checkpoints.keep_last"]:
        yield Contradiction("checkpoints.keep_last", rule, "write keep_last: 1, or at: end")
    if not flat["checkpoints.keep_best"]:
        yield Contradiction("checkpoints.keep_best", rule, "write keep_best: true, or at: end")


def _evaluation(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    entries, path = flat["evaluation.metrics"], "evaluation.metrics"
    for index, entry in enumerate(entries):
        if _is_taken(entry, entries[:index]):
            remedy = f"name {entry} once" if entry in entries[:index] else f"rename the function of {entry}"
            yield Contradiction(path, f"the name of {entry}, {metric_name(entry)}, is taken", remedy)
    if any(one.startswith(HARNESS) for one in entries):
        yield from _harness(flat)
    objectives = ("objective.metric", "objective.also")
    generated = [one for one in objectives if flat[one] == metric_name(EXACT_MATCH)]
    if (entries or generated) and flat["parallel.pp"] > 1:
        rule = "answers are generated by a whole model, and no rank of a pipeline has one"
        yield Contradiction(path if entries else generated[0], rule, "write pp: 1, or another metric")


def _harness(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    rule = "a task of the harness is answered by one rank, which has to have the whole model: with lm_eval"
    for path, is_whole in (
        ("deepspeed.zero_stage", flat["deepspeed.zero_stage"] < 3),
        ("parallel.tp", flat["parallel.tp"] == 1),
    ):
        if not is_whole:
            word = "zero_stage is 0, 1 or 2" if path == "deepspeed.zero_stage" else "tp is 1"
            yield Contradiction(
                path, f"{rule} {word}", "write so, or take the task out of evaluation.metrics"
            )


def _is_taken(entry: str, earlier: Sequence[str]) -> bool:
    name = metric_name(entry)
    is_standard = entry != EXACT_MATCH and better(name) is not None
    return is_standard or name in map(metric_name, earlier)


def _length(flat: Mapping[str, Any], facts: Facts) -> Iterator[Contradiction]:
    limit, length = facts.max_position_embeddings, flat["training.max_seq_len"]
    if limit is not None and length > limit:
        rule = f"the model tells at most {limit} positions apart (max_position_embeddings), not {length}"
        yield Contradiction("training.max_seq_len", rule, f"write max_seq_len: {limit}")


def _cost(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    if flat["search.cost_budget"] is not None and flat["resources.price_per_gpu_hour"] is None:
        rule = "what a sweep costs is not known without a price: resources.price_per_gpu_hour is missing"
        remedy = "write price_per_gpu_hour under resources, or use search.time_budget"
        yield Contradiction("search.cost_budget", rule, remedy)


def _secrets(flat: Mapping[str, Any]) -> Iterator[Contradiction]:
    for name in written_secrets(flat["resources.env"]):
        rule = f"env: the value of {name} is a secret, and this file is copied into the sweep's folder"
        remedy = f"write only the name, {name}, and export it where you give the command"
        yield Contradiction("resources", rule, remedy)


def _rows(flat: Mapping[str, Any], facts: Facts) -> Iterator[Contradiction]:
    rows, epochs = facts.train_rows, flat["training.epochs"]
    global_batch = flat["training.global_batch_size"]
    if not (rows and facts.eval_rows):
        yield _nothing_left(flat, facts)
    elif optimizer_steps(rows=rows, epochs=epochs, global_batch=global_batch) < 1:
        rule = f"{rows} training rows x {epochs:g} epochs do not fill one global batch of {global_batch}"
        remedy = "give more rows or epochs, or a smaller batch or accumulation"
        yield Contradiction("training.global_batch_size", rule, remedy)


def _proxy(flat: Mapping[str, Any], facts: Facts) -> Iterator[Contradiction]:
    """Whether the small run can be trained, and says something about the real one."""
    rows, model_path = flat["search.proxy.rows"], flat["search.proxy.model_path"]
    if rows is None and model_path is None:
        return
    path = "search.proxy.model_path" if rows is None else "search.proxy.rows"
    if flat["objective.also"] is not None:
        rule = "with search.proxy few trials train on the real thing, too few for a front of two objectives"
        yield Contradiction("objective.also", rule, "write one objective, or leave search.proxy out")
    small = facts.on_proxy(rows)
    if rows is None:
        yield from _smaller_model(flat, facts, small)
    wrong = {one.path for one in _on_proxy(flat, facts)}
    for one in _on_proxy(flat, small):
        if one.path not in wrong:
            remedy = "write a larger share" if rows else "name another model, or write rows: 0.2 instead"
            yield Contradiction(path, f"on the proxy, {one.rule}", remedy)


def _on_proxy(flat: Mapping[str, Any], facts: Facts) -> list[Contradiction]:
    return [*_pipeline(flat, facts), *_length(flat, facts), *_rows(flat, facts)]


def _smaller_model(flat: Mapping[str, Any], facts: Facts, small: Facts) -> Iterator[Contradiction]:
    path, remedy = "search.proxy.model_path", "name a smaller model of the same family, or write rows: 0.2"
    if flat[path] == flat["model_path"]:
        yield Contradiction(path, "is the model itself, and the proxy has to be a smaller one", remedy)
    elif None not in (facts.model_type, small.model_type) and facts.model_type != small.model_type:
        rule = (
            f"the proxy is of the architecture {small.model_type}, the model of {facts.model_type}: what is "
            "best for one family says little about another"
        )
        yield Contradiction(path, rule, f"{remedy} instead")
    elif small.sizes and facts.sizes and small.sizes.parameters >= facts.sizes.parameters:
        rule = (
            f"the proxy has {small.sizes.parameters:,} parameters, no fewer than the model's "
            f"{facts.sizes.parameters:,}: it saves nothing"
        )
        yield Contradiction(path, rule, f"{remedy} instead")


def _nothing_left(flat: Mapping[str, Any], facts: Facts) -> Contradiction:
    kind, length = "held-out" if facts.train_rows else "training", flat["training.max_seq_len"]
    whole = flat["training.overlong"] == "drop"
    lost = facts.rows_too_long / (facts.rows_too_long + facts.train_rows + facts.eval_rows)
    rule = f"no {kind} row {'is so short' if whole else f'has an answer within {length} tokens'}"
    rule += f", and {lost:.0%} of all rows are left out for that"
    remedy = "raise max_seq_len"
    if facts.enough_tokens:
        most, nearly_all = facts.enough_tokens
        remedy += f": {most} would keep 95 % of the rows, {nearly_all} would keep 99 %"
    return Contradiction("training.max_seq_len", rule, remedy)
