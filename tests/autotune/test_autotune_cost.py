"""What a sweep will take is said in tokens, hours and money before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.autotune import Speed, cost_rows, limit_of, trial_tokens
from sweeper.autotune.estimate.cost import sweep_cost
from sweeper.data import LengthSample, gather_facts
from sweeper.space import Space, TrialSize, load_space

SPEED = Speed(
    tokens_per_s=100.0, spread=0.1, evaluated_tokens_per_s=500.0, cold_start_s=30.0, warm_start_s=2.0
)


def sample_of(lengths: list[int], *, train_rows: int = 96, eval_rows: int = 24) -> LengthSample:
    return LengthSample(
        lengths=np.asarray(lengths),
        completion_tokens=np.asarray(lengths) // 2 + 1,
        eval_lengths=np.asarray([50]),
        train_rows=train_rows,
        eval_rows=eval_rows,
        max_seq_len=max(lengths),
    )


SAMPLE = sample_of([90, 110])
"""96 rows of 100 tokens: 9,600 a trial of one epoch, and 1,200 held out."""


@pytest.fixture
def space(tmp_path, write_space):
    def make(**changes: Any) -> Space:
        return load_space(write_space(tmp_path, **changes), gather=gather_facts)

    return make


def test_hours_are_those_of_training_evaluation_and_starts(space):
    cost = sweep_cost(space(), SAMPLE, SPEED)
    assert [one.tokens for one in cost.each] == [9600, 9600]  # both batches divide 96 rows
    trial_s = 9600 / 100 + 3 * 1200 / 500
    assert [one.seconds for one in cost.each] == pytest.approx([trial_s] * 2)
    assert cost.tokens == 3 * 9600
    assert cost.evaluated_tokens == (3 * 3 + 1) * 1200
    assert cost.seconds == pytest.approx(30 + 1200 / 500 + 3 * trial_s + 2 * 2)


def test_trials_side_by_side_take_turns_in_their_places(space):
    alone = sweep_cost(space(search__trials=4), SAMPLE, SPEED)
    paired = sweep_cost(space(search__trials=4, resources={"max_concurrent": 2}), SAMPLE, SPEED)
    round_s = 9600 / 100 + 3 * 1200 / 500 + 2
    assert alone.seconds - paired.seconds == pytest.approx(2 * round_s)
    assert "measured alone" not in dict(alone.rows())["hours"]
    assert "measured alone" in dict(paired.rows())["hours"]


def test_what_trials_differ_in_shows_as_a_span_and_their_mean_stands_for_the_sweep(space):
    cost = sweep_cost(space(training__epochs=[1, 3]), SAMPLE, SPEED)
    assert {one.tokens for one in cost.each} == {9600, 28800}
    assert cost.tokens == 3 * (9600 + 28800) / 2
    assert "about 9,600 to 28,800 per trial" in dict(cost.rows())["tokens"]


def test_the_price_of_a_cpu_hour_is_the_machines(space):
    resources = {"max_concurrent": 2, "price_per_gpu_hour": 3.6}
    cost = sweep_cost(space(resources=resources), SAMPLE, SPEED)
    assert cost.money == pytest.approx(cost.seconds / 1000)
    assert "3.6 an hour for this machine" in dict(cost.rows())["cost"]


def test_the_price_of_gpus_is_of_all_places_for_as_long_as_the_sweep_runs(space):
    resources = {"max_concurrent": 2, "gpus_per_rank": 1, "price_per_gpu_hour": 3.6}
    cost = sweep_cost(space(resources=resources, parallel={"dp": 2}), SAMPLE, SPEED)
    assert dict(cost.rows())["cost"].endswith("for 4 GPUs")
    assert cost.money == pytest.approx(4 * cost.seconds / 1000)


def test_a_budget_that_is_too_small_says_how_many_trials_fit(space):
    trial_s = 9600 / 100 + 3 * 1200 / 500
    first_s = 30 + 1200 / 500 + trial_s
    for seconds, fitting in ((first_s - 1, 0), (first_s + 1, 1), (first_s + trial_s + 2.01, 2)):
        cost = sweep_cost(space(search__time_budget=f"{seconds:.3f}s"), SAMPLE, SPEED)
        assert cost.fitting == fitting
        assert ("not even one trial" if not fitting else f"about {fitting} of 3") in dict(cost.rows())[
            "budget"
        ]
    ample = sweep_cost(space(search__time_budget="1h"), SAMPLE, SPEED)
    assert ample.fitting == 3 and "budget" not in dict(ample.rows())


def test_a_cost_budget_is_a_time_at_a_price_and_the_tighter_of_two_budgets_counts(space):
    resources = {"max_concurrent": 1, "price_per_gpu_hour": 2.0}
    limit = limit_of(space(search__cost_budget=1, resources=resources))
    assert (limit.seconds, str(limit)) == (1800, "the cost budget (1)")
    both = limit_of(space(search__cost_budget=1, search__time_budget="20m", resources=resources))
    assert (both.seconds, str(both)) == (1200, "the time budget (20m)")
    assert limit_of(space()) is None


def test_without_a_speed_tokens_are_said_and_what_measures_the_rest(space):
    rows = dict(cost_rows(space(), SAMPLE, None))
    assert "9,600 per trial" in rows["tokens"]
    assert rows["hours"].startswith("not measured yet; `sweeper autotune ")


def test_without_lengths_there_is_an_upper_bound_of_tokens(space):
    rows = cost_rows(space(), None, SPEED)
    assert rows == [("tokens", "unknown before the rows are tokenized; 6,140 per trial at most")]


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=40),
    rows=st.integers(1, 500),
    epochs=st.floats(0.1, 5),
    batch=st.integers(1, 32),
    packing=st.booleans(),
)
def test_a_trial_trains_on_whole_batches_and_on_no_more_tokens_than_its_epochs_have(
    lengths, rows, epochs, batch, packing
):
    sample = sample_of(lengths, train_rows=rows)
    size = TrialSize(global_batch=batch, epochs=epochs, ranks=1, steps=int(rows * epochs) // batch)
    tokens = trial_tokens(size, sample, packing=packing)
    assert 0 <= tokens <= sample.epoch_tokens * epochs * 1.001 + 1e-6
    if not packing:
        rows_trained = tokens / float(sample.lengths.mean())
        assert rows_trained % batch == pytest.approx(0, abs=1e-6) or rows_trained % batch > batch - 1e-6
        assert rows * epochs - rows_trained < batch + 1e-3
