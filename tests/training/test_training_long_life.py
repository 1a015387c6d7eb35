"""A worker lives long: trial after trial leaves its memory as it was."""

from __future__ import annotations

import pytest
import torch

from sweeper.training.memory import held_memory_gib

TRIALS = 8


@pytest.mark.parametrize(
    "changes",
    [{"zero_stage": 0}, {"zero_stage": 2}, {"zero_stage": 3}, {"lora": {"rank": 4, "alpha": 16}}],
    ids=str,
)
def test_trials_leave_no_memory_behind(run, quick_config, changes):
    config = quick_config(epochs=0.5, **changes)
    once = config.objective.model_copy(update={"evaluations": 1})
    config = config.model_copy(update={"objective": once})
    held = []
    for _ in range(TRIALS):
        run(config)
        held.append(held_memory_gib())
    model_gib = 1.03e6 * 4 * 4 / 2**30  # weights, gradient and two moments of the packaged model, fp32
    grown = held[-1] - held[2]
    assert grown < model_gib, f"{grown * 1024:.0f} MiB in {TRIALS - 3} trials: {held}"


def test_a_worker_that_grew_says_so(rank, run, quick_config, monkeypatch):
    config = quick_config()
    run(config)
    assert not rank.should_recycle()
    monkeypatch.setattr("sweeper.training.ranks.worker.held_memory_gib", lambda: rank._after_first_gib + 2)
    assert rank.should_recycle()


def test_zero_3_leaves_torchs_own_linear_layers_to_later_trials(run, quick_config):
    run(quick_config(zero_stage=3))
    assert torch.nn.functional.linear is torch._C._nn.linear
