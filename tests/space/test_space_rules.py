"""The rules of thumb give what their sources say."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from space_helpers import FACTS, load_text

from sweeper.space import LogUniform, Scheduler, dump_config, make_plan
from sweeper.space.config import rules


def test_small_sets_are_repeated():
    assert (rules.epochs(9_999), rules.epochs(10_000)) == (3, 1)


def test_the_learning_rate_of_full_fine_tuning_falls_with_the_width_whatever_the_family():
    assert rules.lr(2000, lora=False) == 5e-5
    assert rules.lr(4096, lora=False) == rules.lr(4096, lora=False, model_type="qwen3") == 2.9e-5
    assert rules.lr(None, lora=False) == 2e-5


def test_the_learning_rate_of_lora_knows_families_and_lies_between_what_is_disputed():
    assert rules.lora_lrs(5120, "qwen3") == (3e-4, 4.6e-4)  # where Llama's exponent would say 2.4e-4
    assert rules.lora_lrs(5120, "llama") == (3e-4, 2.4e-4)
    assert rules.lora_lrs(5120, "mistral") == rules.lora_lrs(None, "llama") == (3e-4,)
    assert rules.lr(5120, lora=True, model_type="qwen3") == 3.7e-4
    assert rules.lr(5120, lora=True, model_type="llama") == 2.7e-4
    assert rules.lr(5120, lora=True, model_type="mistral") == rules.lr(None, lora=True) == 3e-4


def test_a_family_is_told_by_the_model_type_of_config_json_or_of_a_gguf_file():
    families = {
        "llama": ["llama", "llama4_text"],
        "qwen": ["qwen2", "qwen2_moe", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3moe", "qwen3_vl_moe"],
        None: ["qwen3_5", "qwen3_5_moe", "qwen35", "qwen3_next", "mistral", "gemma3", "nemotron_h", "", None],
    }
    for family, model_types in families.items():
        assert [rules.lr_family(one) for one in model_types] == [family] * len(model_types)


widths = st.integers(1, 2**31 - 1)
model_types = st.sampled_from(["llama", "qwen2", "qwen3_moe", "qwen3_5", "gemma3", None])


@given(width=widths, wider=widths, model_type=model_types, lora=st.booleans())
def test_a_wider_model_never_gets_a_higher_learning_rate(width, wider, model_type, lora):
    low, high = sorted([width, wider])
    rate = rules.lr(low, lora=lora, model_type=model_type)
    assert 0 < rules.lr(high, lora=lora, model_type=model_type) <= rate <= 0.1
    assert rate == float(f"{rate:.1e}")


@given(width=widths, model_type=model_types)
def test_the_range_of_auto_spans_all_that_is_published_on_lora(width, model_type):
    views = rules.lora_lrs(width, model_type)
    practice = rules.lr(width, lora=True, model_type=model_type)
    span = rules.lr_range(practice, views)
    for rate in (*views, practice):
        assert span.low <= rate <= span.high
    assert min(views) <= practice * (1 + 0.05) and practice * (1 - 0.05) <= max(views)
    usual = rules.lr_range(practice)
    assert span.low <= usual.low and usual.high <= span.high


def test_the_range_of_auto_spans_what_is_disputed_up_to_a_cap():
    assert rules.lr_range(2e-5) == LogUniform(2e-6, 2e-3)
    assert rules.lr_range(5e-3) == LogUniform(5e-4, 0.1)
    assert rules.lr_range(rules.lr(1, lora=True, model_type="llama")).high == 0.1


LORA = "training: {lr: auto, lora: {rank: 16}}\n"


def test_a_plan_says_what_is_disputed_about_lr_where_a_rule_decides_it(tmp_path):
    def noted(text, **facts):
        plan = make_plan(load_text(tmp_path, text, facts=replace(FACTS, hidden_size=5120, **facts)))
        return [note for note in plan.notes if "disputed" in note]

    (note,) = noted(LORA, model_type="qwen3")
    assert all(word in note for word in ("0.0003", "qwen", "0.00046 at 5120", "middle, 0.00037"))
    (note,) = noted(LORA.replace("lr: auto, ", ""), model_type="gemma3")
    assert "0.0003" in note and "gemma3" in note
    assert noted(LORA.replace("auto", "1e-4"), model_type="qwen3") == []
    assert noted("training: {lr: auto}\n", model_type="qwen3") == []


def test_a_stored_sweep_keeps_the_range_that_it_began_with_whatever_the_rule_says_now(tmp_path):
    begun = load_text(tmp_path, LORA, facts=replace(FACTS, model_type="llama"))
    stored = dump_config(begun.resolved())
    again = load_text(tmp_path, stored, head="", facts=replace(FACTS, model_type="qwen3"))
    assert again.dimension("lr").open_value == begun.dimension("lr").open_value


@pytest.mark.parametrize(
    ("rows", "batch"), [(3, 2), (16, 16), (2_000, 16), (9_000, 16), (52_000, 128), (939_000, 128)]
)
def test_the_global_batch_grows_with_the_rows(rows, batch):
    assert rules.global_batch_size(rows) == batch


def test_each_schedule_has_its_usual_end():
    found = {name: rules.final_lr_ratio(name) for name in get_args(Scheduler)}
    assert found == {"constant": 1, "linear": 0, "cosine": 0, "exponential": 0.05, "wsd": 0}


def test_a_cpu_runs_a_few_trials_and_a_gpu_machine_as_many_as_have_their_gpus():
    assert rules.max_concurrent(devices=1, cpus=2, ranks=1, gpus=0) == 2
    assert rules.max_concurrent(devices=1, cpus=64, ranks=1, gpus=0) == 4
    assert rules.max_concurrent(devices=8, cpus=64, ranks=2, gpus=1) == 4
    assert rules.max_concurrent(devices=1, cpus=64, ranks=1, gpus=0.1) == 10
    assert rules.max_concurrent(devices=0, cpus=1, ranks=8, gpus=1) == 1
    assert rules.cpus_per_rank(cpus=2, ranks=1, concurrent=2) == 1


def test_every_rule_names_its_reason():
    for name in rules.__all__:
        assert len(getattr(rules, name).__doc__) > 60, name
