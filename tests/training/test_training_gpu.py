"""The same trial on a GPU, where there is one."""

from __future__ import annotations

import pytest
import torch

from sweeper.space import Resources
from sweeper.training.ranks.group import WorkerGroup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is here"),
    pytest.mark.usefixtures("ray_here"),
]


def test_a_bf16_trial_on_a_gpu_lowers_the_held_out_loss(quick_config, job_of, run_in):
    one_gpu = Resources(max_concurrent=1, cpus_per_rank=1, gpus_per_rank=1)
    config = quick_config(precision="bf16", zero_stage=2).model_copy(update={"resources": one_gpu})
    group = WorkerGroup(config, None)
    try:
        run = run_in(group, job_of(config, evaluate_untrained=True))
    finally:
        group.shut_down()
    assert run.final < 0.9 * run.evaluations[0].metrics["eval/loss"]
    assert run.evaluations[-1].metrics["perf/peak_memory_gib"] < 2
