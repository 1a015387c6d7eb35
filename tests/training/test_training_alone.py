"""One rank alone does without what DeepSpeed does between several, and learns the same to the last bit."""

from __future__ import annotations

import math

import pytest
import torch


def _weights(*gradients: torch.Tensor | None) -> list[torch.nn.Parameter]:
    weights = []
    for gradient in gradients:
        weight = torch.nn.Parameter(torch.zeros(1 if gradient is None else gradient.shape))
        weight.grad = None if gradient is None else gradient.clone()
        weights.append(weight)
    return weights


@pytest.mark.parametrize("size", [1e-4, 1.0, math.inf, math.nan])
@pytest.mark.parametrize("most", [0.0, 0.1, 1.0])
def test_norm_and_gradients_are_those_of_deepspeeds_own_function(rank, most, size):
    from deepspeed.runtime.utils import clip_grad_norm_

    from sweeper.training.parallel.alone import clipped_norm

    torch.manual_seed(0)
    gradients = [torch.randn(40, 30), None, torch.randn(30), torch.randn(7, 5) * size]
    ours, theirs = _weights(*gradients), _weights(*gradients)
    norm = clipped_norm(ours, most, None)
    found = [norm.reshape(1), *(weight.grad for weight in ours)]
    expected = [clip_grad_norm_(theirs, most or math.inf).reshape(1), *(weight.grad for weight in theirs)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_weight_without_a_part_in_the_loss_is_moved_as_deepspeed_does(rank, job_of, quick_config):
    rank.prepare(job_of(quick_config()))
    engine = rank._trainer._executor.engine
    for collect in (
        engine.buffered_allreduce_fallback,
        type(engine).buffered_allreduce_fallback.__get__(engine),
    ):
        assert all(weight.grad is None for weight in engine.module.parameters())
        collect(elements_per_buffer=2**20)
        assert all(not weight.grad.any() for weight in engine.module.parameters())
        engine.zero_grad()
