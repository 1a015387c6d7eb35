"""The rules of thumb give what their sources say."""

from __future__ import annotations

from typing import get_args

import pytest

from sweeper.spec import LogUniform, Scheduler, rules


def test_small_sets_are_repeated():
    assert (rules.epochs(9_999), rules.epochs(10_000)) == (3, 1)


def test_the_learning_rate_falls_with_the_width_and_is_ten_times_higher_for_lora():
    assert rules.lr(2000, lora=False) == 5e-5
    assert rules.lr(4096, lora=False) == pytest.approx(2.9e-5)
    assert rules.lr(4096, lora=True) == pytest.approx(2.9e-4)
    assert (rules.lr(None, lora=False), rules.lr(None, lora=True)) == (2e-5, 2e-4)


def test_the_range_of_auto_spans_what_is_disputed_up_to_a_cap():
    assert rules.lr_range(2e-5) == LogUniform(2e-6, 2e-3)
    assert rules.lr_range(5e-3) == LogUniform(5e-4, 0.1)
    assert rules.lr_range(rules.lr(1, lora=True)).high == 0.1


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
