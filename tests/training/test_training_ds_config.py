"""A closed configuration means one DeepSpeed configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.training.parallel.ds_config import deepspeed_config


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


def test_a_configuration_of_ones_own_lies_beneath_what_the_space_file_says(quick_config):
    own = {
        "zero_optimization": {"stage": "auto", "overlap_comm": True, "reduce_bucket_size": "auto"},
        "activation_checkpointing": {"partition_activations": True},
        "optimizer": {"type": "AdamW"},
        "scheduler": {"type": "WarmupCosineLR"},
        "bf16": {"enabled": "auto", "check_grad_overflow": False},
        "train_batch_size": "auto",
        "steps_per_print": 10,
    }
    plain = deepspeed_config(quick_config(zero_stage=2))
    ds = deepspeed_config(quick_config(zero_stage=2, config=own))
    assert ds == {
        **plain,
        "zero_optimization": {"stage": 2, "overlap_comm": True},
        "activation_checkpointing": {"partition_activations": True},
        "bf16": {"enabled": False, "check_grad_overflow": False},
        "steps_per_print": 10,
    }
    assert own["zero_optimization"]["stage"] == "auto", "the configuration itself stays as it was"


@given(
    own=st.recursive(
        st.sampled_from(["auto", 1, True, None, "x"]),
        lambda inner: st.dictionaries(
            st.sampled_from(["zero_optimization", "stage", "bf16", "enabled", "train_batch_size", "other"]),
            inner,
        ),
    ).filter(lambda own: isinstance(own, dict))
)
def test_no_configuration_of_ones_own_changes_what_the_space_file_says(quick_config, own):
    def is_within(part, whole):
        if isinstance(part, dict):
            return all(key in whole and is_within(value, whole[key]) for key, value in part.items())
        return part == whole

    decided = deepspeed_config(quick_config(zero_stage=3, offload="all"))
    assert is_within(decided, deepspeed_config(quick_config(zero_stage=3, offload="all", config=own)))
