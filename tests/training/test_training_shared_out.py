"""A model that does not fit on one device is shared out weight by weight, and trains as any other."""

from __future__ import annotations

from dataclasses import replace

from sweeper.training.parallel import replicas


def test_a_model_that_is_shared_out_before_it_is_whole_has_the_losses_of_one_that_was(
    rank, job_of, run_in, quick_config, monkeypatch
):
    config = quick_config(zero_stage=3, precision="bf16", per_device_batch_size=2)
    job = replace(job_of(config), steps=3, held_out_rows=2)
    whole = run_in(rank, job)
    monkeypatch.setattr(replicas, "fits_device", lambda _: False)
    assert run_in(rank, job).losses == whole.losses
    rank.stop()
