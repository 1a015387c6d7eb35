"""Settings that are each right and do not go together: told like any other fault, with a value that does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from space_helpers import GPU_FACTS, assert_told, problems_of

# what is wrong -> text after the three required lines, line:column, part of the rule, part of the remedy
CASES = {
    "batch sizes that contradict": (
        "training:\n  per_device_batch_size: 4\n  gradient_accumulation_steps: 4\n  global_batch_size: 24\n",
        "7:22",
        "= 16",
        "write global_batch_size: 16",
    ),
    "a global batch that does not divide": (
        "training: {per_device_batch_size: 16, global_batch_size: 40}\n",
        "4:58",
        "not a multiple of per_device_batch_size (16)",
        "32 or 48",
    ),
    "a global batch that does not divide in one combination": (
        "training: {per_device_batch_size: [8, 12], global_batch_size: 32}\n",
        "4:63",
        "with per_device_batch_size: 12",
        "24 or 36",
    ),
    "a global batch that dp does not divide": (
        "training: {global_batch_size: 10}\nparallel: {dp: 4}\n",
        "4:31",
        "not a multiple of dp (4)",
        "8 or 12",
    ),
    "accumulation and global batch both open": (
        "training:\n  gradient_accumulation_steps: [1, 2]\n  global_batch_size: [16, 32]\n",
        "5:32",
        "cannot both be open",
        "leave gradient_accumulation_steps out",
    ),
    "an open accumulation with everything fixed": (
        "training:\n  gradient_accumulation_steps: [1, 2]\n"
        "  per_device_batch_size: 8\n  global_batch_size: 16\n",
        "7:22",
        "one follows from the other two",
        "leave global_batch_size out",
    ),
    "ranks of one trial that share a GPU": (
        "parallel: {dp: 2}\nresources: {gpus_per_rank: 0.5}\n",
        "5:28",
        "several ranks of a trial cannot share a GPU",
        "write 1, or trials of one rank",
    ),
    "too few rows": ("training: {global_batch_size: 8192}\n", "4:31", "do not fill one", "more rows"),
    "an exponential to 0": (
        "training: {scheduler: exponential, final_lr_ratio: 0}\n",
        "4:52",
        "never reaches 0",
        "0.05",
    ),
    "an exponential to 0 in one combination": (
        "training:\n  scheduler: [linear, exponential]\n  final_lr_ratio: 0\n",
        "6:19",
        "with scheduler: exponential",
        "0.05",
    ),
    "a warm-up and a decay that overlap": (
        "training: {scheduler: wsd, warmup_ratio: 0.4, decay_ratio: 0.7}\n",
        "4:60",
        "warm-up (0.4 of the steps) and decay (0.7) overlap",
        "at most 1",
    ),
    "a warm-up and a decay that overlap in one combination": (
        "training:\n  scheduler: [cosine, wsd]\n  warmup_ratio: 0.5\n  decay_ratio: {uniform: [0.1, 0.6]}\n",
        "7:16",
        "with scheduler: wsd, decay_ratio: 0.6",
        "at most 1",
    ),
    "offload without ZeRO": (
        "deepspeed: {zero_stage: 0, offload: optimizer}\n",
        "4:37",
        "zero_stage 1, 2 or 3",
        "zero_stage: 2",
    ),
    "offload of parameters without ZeRO-3": (
        "deepspeed: {zero_stage: [1, 3], offload: all}\n",
        "4:42",
        "not 1 (with zero_stage: 1)",
        "zero_stage: 3",
    ),
    "more pipeline stages than layers": ("parallel: {pp: 31}\n", "4:16", "30 layers", "pp: 30 or less"),
    "stages and tensor shares": ("parallel: {pp: 2, tp: 2}\n", "4:23", "with pp above 1, tp is 1", "tp: 1"),
    "stages with a stage of ZeRO that they do not have": (
        "parallel: {pp: 2}\ndeepspeed: {zero_stage: 2}\n",
        "5:25",
        "zero_stage is 0 or 1, not 2",
        "zero_stage: 1",
    ),
    "stages with parameters in the host's memory": (
        "parallel: {pp: 2}\ndeepspeed: {zero_stage: 3, offload: all}\n",
        "5:37",
        "pipeline engine does not have",
        "offload: none",
    ),
    "tensor shares with adapters": ("parallel: {tp: 2}\ntraining: {lora: {}}\n", "4:16", "AutoTP", "lora"),
    "tensor shares in half precision without ZeRO": (
        "parallel: {tp: 2}\ndeepspeed: {zero_stage: 0, precision: bf16}\n",
        "5:25",
        "clips each rank's share",
        "zero_stage: 1",
    ),
    "more tokens than positions": ("training: {max_seq_len: 9000}\n", "4:25", "8192", "max_seq_len: 8192"),
    "a metric the wrong way round": (
        "objective: {metric: eval/token_accuracy, mode: min}\n",
        "4:48",
        "better when higher",
        "mode: max",
    ),
    "answers the wrong way round": (
        "objective: {metric: eval/exact_match, mode: min}\n",
        "4:45",
        "better when higher",
        "mode: max",
    ),
    "a metric without its room": ("objective: {metric: loss}\n", "4:21", "eval/loss", "write eval/loss"),
    "a metric that nobody computes": (
        "objective: {metric: eval/exact}\n",
        "4:21",
        "none of the metrics that there are: eval/loss",
        "did you mean eval/exact_match?",
    ),
    "a metric that was not declared": (
        "objective: {metric: eval/rouge, mode: max}\n",
        "4:21",
        "none of the metrics",
        "add the function to evaluation.metrics",
    ),
    "a metric of one's own without a mode": (
        "objective: {metric: eval/rouge}\nevaluation: {metrics: [my.scores:rouge]}\n",
        "4:21",
        "not known of a function of your own",
        "mode: max",
    ),
    "two metrics of one name": (
        "evaluation: {metrics: [one:f1, two:f1]}\n",
        "4:23",
        "eval/f1, is taken",
        "rename the function of two:f1",
    ),
    "a metric that stands twice": (
        "evaluation: {metrics: [exact_match, exact_match]}\n",
        "4:23",
        "is taken",
        "name exact_match once",
    ),
    "a metric that is called like a standard one": (
        "evaluation: {metrics: [mine:loss]}\n",
        "4:23",
        "eval/loss, is taken",
        "rename",
    ),
    "a metric that is no function": (
        "evaluation: {metrics: [rouge]}\n",
        "4:23",
        "exact_match or package.module:function",
        "write a list",
    ),
    "a metric without a list": ("evaluation: {metrics: exact_match}\n", "4:23", "a list", "write a list"),
    "answers for no row": ("evaluation: {rows: 0}\n", "4:20", ">= 1", "whole number >= 1"),
}


@pytest.mark.parametrize("fault", CASES)
def test_each_contradiction_is_named_with_its_line_column_rule_and_remedy(fault, tmp_path):
    assert_told(tmp_path, *CASES[fault])


def test_an_architecture_that_cannot_be_staged_is_refused_with_those_that_can(tmp_path):
    facts = replace(GPU_FACTS, model_type="gpt2")
    (one,) = problems_of(tmp_path, "parallel: {pp: 2}\n", facts=facts)
    assert "gpt2; those that can be cut" in one.rule and "llama, mistral, qwen2" in one.rule
