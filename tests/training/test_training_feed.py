"""Evaluations lie evenly on the tokens-seen axis."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sweeper.data import evaluation_steps, spread

token_counts = st.lists(st.integers(1, 500), min_size=1, max_size=200)


@given(token_counts, st.integers(1, 20))
def test_there_are_as_many_as_asked_unless_there_are_fewer_steps_and_the_last_is_at_the_end(counts, asked):
    steps = evaluation_steps(np.cumsum(counts), asked)
    assert 1 <= len(steps) <= min(asked, len(counts))
    assert steps == sorted(set(steps))
    assert steps[-1] == len(counts)


@given(st.lists(st.integers(90, 110), min_size=40, max_size=200), st.integers(1, 8))
def test_each_is_the_first_step_at_or_past_its_share_of_the_tokens(counts, asked):
    after = np.cumsum(counts)
    steps = evaluation_steps(after, asked)
    assert len(steps) == asked
    for share, step in enumerate(steps, start=1):
        wanted = after[-1] * share / asked
        assert after[step - 1] >= wanted - 1e-6
        assert step == 1 or after[step - 2] < wanted


@given(st.integers(1, 200), st.integers(1, 250))
def test_a_part_of_the_held_out_rows_is_spread_over_all_of_them(rows, most):
    chosen = spread(rows, most)
    assert len(chosen) == min(rows, most) == len(set(chosen.tolist()))
    assert chosen[0] == 0 and chosen[-1] < rows
    assert np.ptp(np.diff([*chosen, rows])) <= 1
    assert spread(rows, None).tolist() == list(range(rows))
