"""Two objectives in tables, status and answers, and which member of the front is preferred."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommend_helpers import SPACE, make_space, trial
from ruamel.yaml import YAML

from sweeper.recommend import (
    answer,
    front_line,
    preferred,
    result_rows,
    results_csv,
    results_markdown,
    results_table,
    sweep_status,
    write_answer,
)
from sweeper.search import TrialRecord, TrialState, front_of, second_of
from sweeper.space import Space, SweepFolder


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Space:
    return make_space(tmp_path_factory.mktemp("two"), SPACE + "objective: [eval/loss, gpu_seconds]\n")


def ran(number: int, loss: float, seconds: float, state=TrialState.COMPLETE, **more) -> TrialRecord:
    one = trial(number, loss, state, **more)
    return replace(one, evaluations=(replace(one.evaluations[0], seconds=seconds),))


def some_trials() -> list[TrialRecord]:
    """On the front are 4, 1, 3 and 2, by rising cost; the knee is 3."""
    return [
        ran(0, 2.0, 50.0, is_default=True),
        ran(1, 1.9, 20.0),
        ran(2, 1.0, 1000.0),
        ran(3, 1.1, 40.0),
        ran(4, 3.0, 10.0),
        ran(5, 0.5, 5.0, TrialState.PRUNED),
    ]


def number(space: Space, trials: list[TrialRecord], prefer) -> int | None:
    found = preferred(space, trials, prefer)
    return None if found is None else found.number


def header(markdown: str) -> list[str]:
    """The titles of the table's columns."""
    return next(line for line in markdown.splitlines() if line.startswith("| ")).strip("| ").split(" | ")


def test_loss_is_the_best_first_cost_the_cheapest_no_worse_than_the_default_knee_between_them(two):
    chosen = {prefer: number(two, some_trials(), prefer) for prefer in ("loss", "cost", "knee")}
    assert chosen == {"loss": 2, "cost": 1, "knee": 3}


def test_the_default_itself_is_the_cheapest_where_nothing_cheaper_is_as_good(two):
    trials = [ran(0, 2.0, 15.0, is_default=True), *some_trials()[1:]]
    assert number(two, trials, "cost") == 0


def test_a_default_that_was_not_trained_to_its_end_is_beaten_by_every_member(two):
    trials = [ran(0, 2.0, 15.0, TrialState.FAIL, is_default=True), *some_trials()[1:]]
    assert number(two, trials, "cost") == 4


@pytest.mark.parametrize("prefer", ["loss", "cost", "knee"])
def test_without_a_complete_trial_nothing_is_preferred_and_of_one_it_is_that(two, prefer):
    assert preferred(two, [ran(0, 1.0, 1.0, TrialState.RUNNING)], prefer) is None
    assert number(two, [ran(0, 1.0, 1.0)], prefer) == 0


def test_of_two_members_the_knee_is_the_better_first_objective(two):
    assert number(two, [ran(0, 1.0, 10.0), ran(1, 2.0, 1.0)], "knee") == 0


LOSS, SECONDS = st.floats(0.1, 5.0), st.floats(1.0, 1e4)


@given(outcomes=st.lists(st.tuples(LOSS, SECONDS), min_size=1, max_size=10), scale=st.floats(0.1, 10.0))
def test_a_preference_is_a_member_of_the_front_whatever_the_units(two, outcomes, scale):
    trials = [ran(n, *one, is_default=n == 0) for n, one in enumerate(outcomes)]
    front = front_of(trials, two.settings.objective)
    for prefer in ("loss", "cost", "knee"):
        assert preferred(two, trials, prefer) in front
    assert preferred(two, trials, "loss").value == min(one.value for one in trials)
    assert preferred(two, trials, "cost").value <= trials[0].value
    if len(front) > 2:
        ends = front[0], front[-1]
        x, y = (
            [math.log(second_of(one, two.settings.objective)) for one in front],
            [one.value for one in front],
        )
        below = [
            1 - (a - x[0]) / (x[-1] - x[0]) - (b - y[-1]) / (y[0] - y[-1]) if x[0] < x[-1] else 0.0
            for a, b in zip(x, y, strict=True)
        ]
        knee = preferred(two, trials, "knee")
        assert below[front.index(knee)] >= max(below) - 1e-9
        assert max(below) > 1e-9 or knee in ends


def test_tables_mark_the_front_and_show_the_second_objective(two):
    rows = {row.trial: row for row in result_rows(two, some_trials())}
    assert {n for n, row in rows.items() if row.is_pareto} == {1, 2, 3, 4}
    told = {row["trial"]: row for row in csv.DictReader(io.StringIO(results_csv(two, some_trials())))}
    assert (told["3"]["gpu_seconds"], told["3"]["pareto"]) == ("40.0", "True")
    assert (told["5"]["gpu_seconds"], told["5"]["pareto"]) == ("", "False")
    text = results_markdown(two, some_trials())
    assert "| vs default | gpu_seconds | pareto |" in text and "| 40 | yes |" in text
    line = front_line(two, some_trials())
    assert line in text and line == (
        "Pareto front of eval/loss and gpu_seconds: trials 4 (3, 10), 1 (1.9, 20), 3 (1.1, 40), 2 (1, 1000); "
        "by preference cost is trial 1, knee is trial 3"
    )
    assert len(results_table(two, some_trials()).columns) == len(header(text))


def test_the_status_for_programs_names_both_objectives_and_the_front(two):
    status = json.loads(json.dumps(sweep_status(two, some_trials(), "finished"), allow_nan=False))
    assert (status["objectives"], status["pareto"]) == (["eval/loss", "gpu_seconds"], [4, 1, 3, 2])
    assert [one["pareto"] for one in status["trials"]] == [False, True, True, True, True, False]
    assert [one["also"] for one in status["trials"]] == [50.0, 20.0, 1000.0, 40.0, 10.0, None]


def test_an_answer_carries_what_it_was_preferred_for_and_the_front_it_was_chosen_from(two):
    tree = YAML(typ="safe").load(answer(two, some_trials(), {}, {"model": "m"}, "knee"))
    provenance = tree["provenance"]
    assert (provenance["trial"], provenance["prefer"], provenance["also"]) == (3, "knee", "gpu_seconds")
    assert (provenance["value"], provenance["also_value"]) == (1.1, 40.0)
    assert (provenance["default_value"], provenance["default_also_value"]) == (2.0, 50.0)
    assert [one["trial"] for one in provenance["front"]] == [4, 1, 3, 2]
    assert provenance["fingerprints"] == {"model": "m"}


def test_the_answer_that_a_sweep_writes_is_the_best_first_objective(two, tmp_path: Path):
    folder = SweepFolder(tmp_path)
    provenance = YAML(typ="safe").load(write_answer(two, some_trials(), folder, {}, {}))["provenance"]
    assert (provenance["trial"], provenance["prefer"]) == (2, "loss")


def test_with_one_objective_nothing_is_said_of_a_front(space: Space):
    trials = some_trials()
    assert front_line(space, trials) is None and number(space, trials, "loss") == 2
    assert not {"objectives", "pareto"} & set(sweep_status(space, trials, "finished"))
    assert "pareto" not in results_csv(space, trials) + results_markdown(space, trials)
    assert "front" not in answer(space, trials, {}, {}, "loss")


def test_a_cost_in_tokens_has_one_column(tmp_path: Path):
    space = make_space(tmp_path, SPACE + "objective: [eval/loss, tokens]\n")
    titles = header(results_markdown(space, some_trials()))
    assert titles.count("tokens") == 1 and "pareto" in titles
