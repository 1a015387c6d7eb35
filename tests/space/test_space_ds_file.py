"""A DeepSpeed file of the user's own: what contradicts the space file is named, the rest is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space_helpers import GPU_FACTS, load_text, problems_of

from sweeper.errors import SpaceFileError
from sweeper.space import dump_config

HUGGING_FACE: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
    },
    "scheduler": {"type": "WarmupCosineLR", "params": {"warmup_num_steps": "auto"}},
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": True,
        "reduce_bucket_size": "auto",
        "offload_optimizer": {"device": "none", "pin_memory": True},
    },
    "steps_per_print": 2000,
    "wall_clock_breakdown": False,
}


@pytest.fixture
def ds_file(tmp_path, monkeypatch):
    """Writes a DeepSpeed file as ds.json into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(content: object) -> None:
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        (tmp_path / "ds.json").write_bytes(text.encode() if isinstance(text, str) else text)

    return write


# what is said -> the JSON, lines of the space file, part of the rule, part of the remedy
CONFLICTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "another stage": (
        {"zero_optimization": {"stage": 3}},
        "deepspeed: {config: ds.json, zero_stage: 2}\n",
        "the space file says deepspeed.zero_stage: 2 (s.yaml:4:42)",
        "write zero_stage: 3 in the space file",
    ),
    "a stage that the space file leaves open": (
        {"zero_optimization": {"stage": 2}},
        "deepspeed: {config: ds.json, zero_stage: [1, 2]}\n",
        "says deepspeed.zero_stage: 1 | 2",
        "write zero_stage: 2",
    ),
    "a rate inside an open range": (
        {"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}},
        "training: {lr: {log_uniform: [1e-5, 1e-3]}}\ndeepspeed: {config: ds.json}\n",
        "says training.lr: 1e-05 .. 0.001 (log)",
        "write lr: 0.0001",
    ),
    "a batch that a rule decided otherwise": (
        {"train_micro_batch_size_per_gpu": 4},
        "deepspeed: {config: ds.json}\n",
        "says nothing, sweeper takes training.per_device_batch_size: 8",
        "write per_device_batch_size: 4",
    ),
    "a batch that differs in one combination": (
        {"train_batch_size": 16},
        "training: {per_device_batch_size: 8, gradient_accumulation_steps: [1, 2]}\n"
        "deepspeed: {config: ds.json}\n",
        "training.global_batch_size: 8",
        "remove the key",
    ),
    "another device": (
        {"zero_optimization": {"offload_optimizer": {"device": "nvme"}}},
        "deepspeed: {config: ds.json, offload: optimizer}\n",
        "deepspeed.offload: optimizer",
        "change deepspeed.offload in the space file so that both agree",
    ),
    "offloaded parameters": (
        {"zero_optimization": {"offload_param": {"device": "cpu"}}},
        "deepspeed: {config: ds.json}\n",
        "deepspeed.offload: none",
        "change deepspeed.offload",
    ),
    "another precision": ({"fp16": {"enabled": True}}, "deepspeed: {config: ds.json}\n", "fp32", "precision"),
    "another clipping": (
        {"gradient_clipping": 0.5},
        "deepspeed: {config: ds.json}\n",
        "training.max_grad_norm: 1",
        "write max_grad_norm: 0.5",
    ),
    "tensor parallelism": (
        {"tensor_parallel": {"autotp_size": 4}},
        "deepspeed: {config: ds.json}\n",
        "parallel.tp: 1",
        "write tp: 4",
    ),
    "another optimizer": (
        {"optimizer": {"type": "Lamb"}},
        "deepspeed: {config: ds.json}\n",
        "sweeper always has optimizer.type: AdamW",
        "remove the key",
    ),
    "a setting of the optimizer that sweeper has not": (
        {"optimizer": {"type": "AdamW", "params": {"freeze_step": 3}}},
        "deepspeed: {config: ds.json}\n",
        "takes its settings from the space file",
        "set training.lr",
    ),
    "other betas": (
        {"optimizer": {"type": "adamw", "params": {"betas": [0.9, 0.95]}}},
        "deepspeed: {config: ds.json}\n",
        "training.adam_beta1: 0.9",
        "so that both agree",
    ),
    "another schedule": (
        {"scheduler": {"type": "WarmupDecayLR"}},
        "training: {scheduler: cosine}\ndeepspeed: {config: ds.json}\n",
        "training.scheduler: cosine",
        "change training.scheduler",
    ),
    "steps of a schedule": (
        {"scheduler": {"type": "WarmupCosineLR", "params": {"warmup_num_steps": 100}}},
        "deepspeed: {config: ds.json}\n",
        "sweeper has its own schedules",
        "warmup_ratio",
    ),
    "a truth for a number": (
        {"zero_optimization": {"stage": True}},
        "deepspeed: {config: ds.json, zero_stage: 1}\n",
        "deepspeed.zero_stage: 1",
        "remove the key",
    ),
    "no section": (
        {"zero_optimization": 2},
        "deepspeed: {config: ds.json}\n",
        "is a section",
        "write {...}",
    ),
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_what_contradicts_the_space_file_is_named_with_both_values_and_keys(conflict, ds_file, tmp_path):
    content, text, rule, remedy = CONFLICTS[conflict]
    ds_file(content)
    (found,) = problems_of(tmp_path, text)
    assert found.where == "ds.json"
    key = found.value.partition(":")[0]
    assert key.split(".")[0] in content
    assert rule in found.rule.replace(f"{tmp_path}/", "")
    assert remedy in found.remedy


def test_all_contradictions_come_at_once_beside_those_of_the_space_file(ds_file, tmp_path):
    ds_file({"zero_optimization": {"stage": 3}, "gradient_clipping": 2, "optimizer": {"type": "SGD"}})
    found = problems_of(tmp_path, "training: {lr: -1}\ndeepspeed: {config: ds.json}\n")
    assert [one.where for one in found] == ["s.yaml:4:16", "ds.json", "ds.json", "ds.json"]


def test_what_says_the_same_is_accepted_and_the_rest_is_kept_as_it_is(ds_file, tmp_path):
    ds_file(HUGGING_FACE)
    config = load_text(tmp_path, "deepspeed: {config: ds.json}\n", facts=GPU_FACTS).close({})
    assert config.deepspeed.config == HUGGING_FACE
    ds_file({"train_batch_size": 16, "bf16": {"enabled": True}, "zero_optimization": {"stage": 3.0}})
    load_text(tmp_path, "deepspeed: {config: ds.json, zero_stage: 3}\n", facts=GPU_FACTS)


# the file's text -> place, part of the rule
BROKEN = {
    "a comma too many": ('{"a": 1,\n}', "ds.json:", "is not JSON"),
    "empty": ("", "ds.json:1:1", "is not JSON"),
    "a list": ("[1]", "ds.json", "is a JSON object"),
    "a key twice": ('{"a": 1, "a": 2}', "ds.json", "'a' stands twice"),
    "no number": ('{"a": NaN}', "ds.json", "not a finite number"),
    "too large a number": ('{"a": 1e999}', "ds.json", "not a finite number"),
    "a number that YAML cannot give back": ('{"a": 1234567890123456789}', "ds.json", "too long"),
    "half a character": ('{"a": "\\ud800"}', "ds.json", "cannot be printed"),
    "a line end that YAML folds": ('{"a": "\u2028"}', "ds.json", "cannot be printed"),
    "no UTF-8": (b'{"a": "\xff"}', "ds.json", "is not UTF-8"),
    "too deep": ('{"a": ' + "[" * 40 + "]" * 40 + "}", "ds.json", "nested"),
    "far too deep": ("[" * 9_000 + "]" * 9_000, "ds.json", ""),
    "too large": ('{"a": "' + "x" * 30_000 + '"}', "ds.json", "at most 20,000 bytes"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_file_that_is_no_deepspeed_configuration_is_refused_at_its_place(fault, ds_file, tmp_path):
    content, place, rule = BROKEN[fault]
    ds_file(content)
    (found,) = problems_of(tmp_path, "deepspeed: {config: ds.json}\n")
    assert found.where.startswith(place)
    assert rule in found.rule


def test_a_missing_file_is_named_where_the_space_file_names_it(tmp_path):
    (found,) = problems_of(tmp_path, "deepspeed: {config: nowhere/ds.json}\n")
    assert (found.where, found.value) == ("s.yaml:4:21", "nowhere/ds.json")
    assert "no such file" in found.rule


def test_a_sweep_goes_on_with_the_content_that_it_began_with(ds_file, tmp_path):
    ds_file(HUGGING_FACE)
    text = "training: {epochs: [1, 2]}\ndeepspeed: {config: ds.json}\n"
    space = load_text(tmp_path, text, facts=GPU_FACTS)
    stored, best = dump_config(space.resolved()), dump_config(space.close({}))
    (tmp_path / "ds.json").unlink()
    assert load_text(tmp_path, stored, head="", facts=GPU_FACTS) == space
    assert load_text(tmp_path, best, head="", facts=GPU_FACTS).close({}) == space.close({})


def test_content_in_the_space_file_itself_is_held_to_the_same_rules(tmp_path):
    (found,) = problems_of(tmp_path, "deepspeed: {config: {zero_optimization: {stage: 3}}}\n")
    assert found.where == "s.yaml:4:21"
    assert found.value == "zero_optimization.stage: 3"


def test_it_is_not_open_and_an_override_takes_it_away(ds_file, tmp_path):
    ds_file({"zero_optimization": {"stage": 3}})
    (found,) = problems_of(tmp_path, "deepspeed: {config: [ds.json, other.json]}\n")
    assert "config must be" in found.rule or "cannot be open" in found.rule
    space = load_text(tmp_path, "deepspeed: {config: ds.json}\n", overrides=["deepspeed.config=null"])
    assert space.close({}).deepspeed.config is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**16), 10**16) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=st.dictionaries(st.text(), anything, max_size=4))
def test_whatever_is_passed_on_survives_the_sweeps_own_files(content, ds_file, tmp_path):
    ds_file(content)
    try:
        config = load_text(tmp_path, "deepspeed: {config: ds.json}\n").close({})
    except SpaceFileError as error:
        assert all(problem.where == "ds.json" for problem in error.problems)
        return
    assert config.deepspeed.config == content
    assert load_text(tmp_path, dump_config(config), head="").close({}) == config
