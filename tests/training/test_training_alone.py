"""One rank alone does without what DeepSpeed does between several, and learns the same to the last bit."""

from __future__ import annotations


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
