"""``evaluation.held_out_rows``: the loss is measured on as many rows as it takes, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from space_helpers import FACTS, assert_told, load_text

from sweeper.space import make_plan
from sweeper.space.plan.held_out import enough_held_out_rows, with_enough_held_out_rows

MANY = replace(FACTS, train_rows=900_000, eval_rows=50_000, eval_loss_tokens=5_000_000)
"""A hundred tokens with loss in each held-out row."""
AUTO = "evaluation: {held_out_rows: auto}\nobjective: {evaluations: 10}\ntraining: {epochs: 1}\n"


def rows_of(space):
    return space.close({}).evaluation.held_out_rows


def test_auto_is_as_many_rows_as_show_half_a_per_cent_of_the_loss(tmp_path):
    assert rows_of(load_text(tmp_path, AUTO, facts=MANY)) == 400  # 2 x 0.5 / sqrt(40,000 tokens) = 0.005


def test_auto_reads_a_tenth_of_the_shortest_trials_tokens_at_most(tmp_path):
    few = replace(MANY, train_rows=10_000, eval_rows=5_000, eval_loss_tokens=500_000)
    epochs = AUTO.replace("epochs: 1", "epochs: [1, 3]")
    assert rows_of(load_text(tmp_path, epochs, facts=few)) == 100  # of 10,000 rows, at 10 evaluations
    longer = replace(few, eval_row_cost=2.0)
    assert rows_of(load_text(tmp_path, epochs, facts=longer)) == 50
    fewer = epochs.replace("evaluations: 10", "evaluations: 5")
    assert rows_of(load_text(tmp_path, fewer, facts=few)) == 200
    proxied = epochs + "search: {proxy: {rows: 0.5}}\n"
    assert rows_of(load_text(tmp_path, proxied, facts=few)) == 50


def test_auto_keeps_what_shows_two_per_cent_whatever_it_costs(tmp_path):
    few = replace(MANY, train_rows=1_000, eval_rows=50, eval_loss_tokens=5_000)
    assert rows_of(load_text(tmp_path, AUTO, facts=few)) == 25
    assert rows_of(load_text(tmp_path, AUTO, facts=replace(few, eval_loss_tokens=500))) == 50


def test_auto_is_all_rows_where_their_tokens_are_not_counted(tmp_path):
    assert rows_of(load_text(tmp_path, AUTO, facts=replace(MANY, eval_loss_tokens=None))) == 50_000


@given(
    train=st.integers(64, 10**6),
    held_out=st.integers(1, 10**5),
    per_row=st.integers(1, 2_000),
    cost=st.floats(0.1, 10),
    evaluations=st.integers(1, 50),
)
def test_no_more_rows_are_read_than_one_of_the_two_reasons_needs(
    tmp_path_factory, train, held_out, per_row, cost, evaluations
):
    facts = replace(FACTS, train_rows=train, eval_rows=held_out, eval_loss_tokens=held_out * per_row)
    facts = replace(facts, eval_row_cost=cost)
    text = f"objective: {{evaluations: {evaluations}}}\ntraining: {{epochs: 1, global_batch_size: 64}}\n"
    space = load_text(tmp_path_factory.mktemp("space"), text, facts=facts)
    rows, steps = enough_held_out_rows(space), train // 64
    assert 1 <= rows <= held_out
    read = min(evaluations, steps) * rows * cost
    assert read <= 0.1 * steps * 64 * 1.000001 or (rows - 1) * per_row < 2_500  # those show 2 %
    assert (rows - 1) * per_row < 40_000
    assert rows_of(with_enough_held_out_rows(space)) == rows


def test_the_plan_says_on_how_many_rows_and_what_they_show(tmp_path):
    plan = make_plan(load_text(tmp_path, AUTO, facts=MANY))
    assert dict(plan.summary())["evaluations"] == "10 per trial, each on 400 held-out rows"
    assert [note for note in plan.notes if "measured on" in note] == [
        "the loss is measured on 400 of 50,000 held-out rows, evenly spread: they show differences of about "
        "0.5% of it, and evaluations read about 0% of the tokens that the shortest trial trains on"
    ]
    assert not plan.warnings


def test_evaluations_that_read_more_than_they_need_are_a_warning(tmp_path):
    plan = make_plan(load_text(tmp_path, AUTO.replace("auto", "null"), facts=MANY))
    assert plan.space.eval_rows == 50_000
    assert plan.warnings == (
        "the evaluations of a trial read about 56% as many tokens as it trains on: evaluation: "
        "{held_out_rows: auto} would measure the loss on 400 of 50,000 held-out rows, which show differences "
        "of about 0.5%",
    )


def test_too_few_rows_of_many_are_a_warning_that_names_the_setting(tmp_path):
    (warning,) = make_plan(load_text(tmp_path, AUTO.replace("auto", "5"), facts=MANY)).warnings
    assert warning.endswith("About 25 rows would show 2%: raise held_out_rows")


@pytest.mark.parametrize("value", ["0", "-5", "2.5", "many"])
def test_it_is_a_whole_number(tmp_path, value):
    text = f"evaluation: {{held_out_rows: {value}}}\n"
    assert_told(tmp_path, text, "4:29", "a whole number >= 1, or null for all of them", "or auto")
