"""A run that is interrupted and resumed ends in the same weights, to the last bit, as one that was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

VARIANTS: dict[str, dict[str, Any]] = {
    "zero 0": {"zero_stage": 0},
    "zero 1": {"zero_stage": 1},
    "zero 2": {"zero_stage": 2},
    "zero 3": {"zero_stage": 3},
    "zero 0, bf16": {"zero_stage": 0, "precision": "bf16"},
    "zero 2, bf16": {"zero_stage": 2, "precision": "bf16"},
    "zero 3, bf16": {"zero_stage": 3, "precision": "bf16"},
    "packed": {"zero_stage": 2, "packing": True, "per_device_batch_size": 2},
    "accumulation": {"zero_stage": 1, "gradient_accumulation_steps": 2, "per_device_batch_size": 4},
    "adapters with dropout": {"zero_stage": 2, "lora": {"rank": 4, "alpha": 16, "dropout": 0.2}, "lr": 1e-2},
}


def weights_of(rank) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in rank._running()._executor.state_dict().items()}


def finished(rank) -> tuple[list[float], dict[str, torch.Tensor]]:
    losses, done = [], False
    while not done:
        progress = rank.advance()
        losses += [step.loss for step in progress.steps] + [progress.metrics["eval/loss"]]
        done = progress.done
    return losses, weights_of(rank)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_run_ends_in_the_same_weights_to_the_last_bit(
    rank, job_of, quick_config, tmp_path, variant
):
    job = job_of(quick_config(**VARIANTS[variant]))
    rank.prepare(job)
    rank.advance()
    rank.checkpoint(tmp_path / "checkpoint")
    losses, weights = finished(rank)
    rank.prepare(job_of(quick_config(lr=3e-2)))  # something else happens in between
    rank.advance()
    rank.prepare(replace(job, resume_from=tmp_path / "checkpoint"))
    resumed_losses, resumed_weights = finished(rank)
    rank.stop()
    assert resumed_losses == losses
    assert resumed_weights.keys() == weights.keys()
    assert all(torch.equal(resumed_weights[name], weights[name]) for name in weights)
