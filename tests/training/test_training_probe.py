"""A probe says how fast and how large a configuration is, and leaves nothing behind."""

from __future__ import annotations

import pytest

from sweeper.training.ranks.probe import LEAST_STEPS, MOST_STEPS


@pytest.fixture
def probed(rank, job_of, quick_config):
    return rank.probe(job_of(quick_config(per_device_batch_size=8, gradient_accumulation_steps=2)))


def test_a_probe_times_each_pass_of_steady_steps(probed):
    assert LEAST_STEPS <= len(probed.steps) <= MOST_STEPS
    for step in probed.steps:
        assert len(step.passes_s) == 2
        assert 0 < sum(step.passes_s) <= step.seconds
        assert step.tokens > 0
    assert len(probed.passes) == len(probed.steps) + 1  # the warm-up
    assert sum(tokens for tokens, _ in probed.passes[1]) == probed.steps[0].tokens
    assert probed.evaluated_tokens_per_s > 0


def test_a_probe_measures_memory_over_the_idle_process(probed):
    """What it should be is for the memory model's tests: earlier trials have left their traces here."""
    assert 0.2 < probed.idle_gib < probed.peak_gib


def test_trials_after_a_probe_are_what_they_are_without(rank, job_of, quick_config):
    def losses() -> list[float]:
        rank.prepare(job_of(quick_config()))
        return [step.loss for step in rank.advance().steps]

    before = losses()
    rank.probe(job_of(quick_config(per_device_batch_size=4)))
    assert losses() == before
    rank.stop()
