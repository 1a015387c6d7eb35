"""Half precision with a loss scale, which a CPU computes as well if DeepSpeed lets it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from deepspeed.accelerator import get_accelerator


def test_a_step_that_overflows_is_skipped_and_others_have_the_gradients_that_zero_has(
    rank, job_of, quick_config, monkeypatch
):
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda _: True)
    scaled = {"fp16": {"initial_scale_power": 19, "hysteresis": 1}}
    steps = []
    for stage in (0, 2):
        config = quick_config(precision="fp16", zero_stage=stage, config=scaled, per_device_batch_size=2)
        rank.prepare(replace(job_of(config), steps=6, held_out_rows=2))
        engine = rank._running()._executor.engine
        steps.append([step for _ in range(3) for step in rank.advance().steps])
        assert 0 < engine.skipped_steps < engine.global_steps == engine.lr_scheduler.last_epoch
        rank.stop()
    without, with_zero = steps
    assert [one.loss for one in without] == pytest.approx([one.loss for one in with_zero], rel=5e-3)
    norms = [[one.grad_norm for one in run if math.isfinite(one.grad_norm)] for run in steps]
    assert norms[0] == pytest.approx(norms[1], rel=2e-2) and norms[0][0] > 1, "so that it is clipped"
