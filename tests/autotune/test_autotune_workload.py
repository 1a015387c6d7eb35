"""What the passes of a run need, counted from its rows, is what the trainer makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.autotune.estimate.workload import probed_workload, workload_of
from sweeper.training import Probed
from sweeper.training.feed import TrainingFeed


@pytest.mark.parametrize("packing", [False, True])
def test_each_number_of_tokens_that_a_pass_has_is_counted_once(quick_config, rows, packing):
    config = quick_config(per_device_batch_size=4, gradient_accumulation_steps=2, packing=packing, epochs=1)
    feed = TrainingFeed(config, rows, 0, "row_wise", "cpu")
    passes = [batch.input_ids.numel() for step in range(feed.steps) for batch in feed.micro_batches(step)]
    work = workload_of(config, rows)
    assert len(set(passes)) <= work.pass_lengths <= len(set(passes)) + len(rows.eval.lengths) / 3
    assert max(work.first.tokens, work.later.tokens) == max(passes)


def test_a_long_run_meets_every_length_of_a_row_and_a_short_one_as_many_as_are_drawn(quick_config, rows):
    def counted(steps: int) -> float:
        config = quick_config(per_device_batch_size=4, gradient_accumulation_steps=1)
        feed = TrainingFeed(config, rows, 0, "row_wise", "cpu", steps=steps)
        probed = Probed(
            steps=(), passes=feed.largest_passes(steps), held_out=(96, 50), evaluated_tokens_per_s=1.0,
            startup_s=0.1, idle_gib=0.5, peak_gib=0.6,
        )  # fmt: skip
        return probed_workload(probed, rows).row_lengths

    trained = np.unique(rows.train.lengths)
    only_held_out = len(np.setdiff1d(rows.eval.lengths, trained))
    assert counted(5_000) == pytest.approx(len(trained) + only_held_out / 3, rel=0.02)
    drawn = [
        len(np.unique(np.random.RandomState(seed).choice(rows.train.lengths, 12))) for seed in range(300)
    ]
    unseen = len(np.union1d(rows.eval.lengths, trained)) - np.mean(drawn)
    assert counted(3) == pytest.approx(np.mean(drawn) + unseen / 3, rel=0.15)
