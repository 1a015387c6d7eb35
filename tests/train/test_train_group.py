"""Ranks in processes of their own: two share the work, and a fresh one repeats a warm one."""

from __future__ import annotations

import pytest

from sweeper.errors import TrialDivergedError, TrialFailedError
from sweeper.train.group import WorkerGroup

pytestmark = pytest.mark.usefixtures("local_ray")


def run_fresh(config, job, run_in):
    group = WorkerGroup(config, None)
    try:
        return run_in(group, job)
    finally:
        group.shut_down()


def test_dp_2_learns_what_dp_1_learns_at_the_same_global_batch(run, run_in, quick_config, job_of):
    one = run(quick_config(per_device_batch_size=8))
    config = quick_config(per_device_batch_size=4, dp=2, zero_stage=2)
    two = run_fresh(config, job_of(config), run_in)
    assert two.prepared.total_tokens == one.prepared.total_tokens
    assert two.losses == pytest.approx(one.losses, abs=1e-3)


def test_a_fresh_process_repeats_a_warm_one_to_the_last_bit(run, run_in, quick_config, job_of):
    config = quick_config()
    run(quick_config(lr=1e-2, epochs=0.5))
    assert run_fresh(config, job_of(config), run_in).losses == run(config).losses


def test_an_error_in_a_rank_arrives_as_what_it_was(quick_config, job_of):
    config = quick_config(lr=10, scheduler="constant", max_grad_norm=0, epochs=3)
    group = WorkerGroup(config, None)
    try:
        with pytest.raises(TrialFailedError, match="no trial is prepared"):
            group.advance()
        group.prepare(job_of(config))
        with pytest.raises(TrialDivergedError):
            for _ in range(3):
                group.advance()
    finally:
        group.shut_down()
