"""A closed configuration means one DeepSpeed configuration."""

from __future__ import annotations

import pytest

from sweeper.train.ds_config import deepspeed_config


def test_the_batch_arithmetic_is_deepspeeds_own(quick_config):
    config = quick_config(per_device_batch_size=4, gradient_accumulation_steps=3, dp=2)
    ds = deepspeed_config(config)
    assert ds["train_batch_size"] == 24
    assert ds["train_micro_batch_size_per_gpu"] == 4
    assert ds["gradient_accumulation_steps"] == 3


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_zero_stage_is_what_was_asked(quick_config, stage):
    assert deepspeed_config(quick_config(zero_stage=stage))["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_one_precision_is_on(quick_config, precision):
    ds = deepspeed_config(quick_config(precision=precision))
    assert (ds["bf16"]["enabled"], ds["fp16"]["enabled"]) == (precision == "bf16", precision == "fp16")


def test_offload_is_off_unless_asked(quick_config):
    assert "offload_optimizer" not in deepspeed_config(quick_config())["zero_optimization"]
    both = deepspeed_config(quick_config(zero_stage=3, offload="all"))["zero_optimization"]
    assert both["offload_optimizer"] == both["offload_param"] == {"device": "cpu"}
