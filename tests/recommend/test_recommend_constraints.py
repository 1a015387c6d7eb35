"""What the answer says of constraints: in the sentence, the table, the files, the status and the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from recommend_helpers import SPACE, make_space, trial
from ruamel.yaml import YAML

from sweeper.recommend import answer, results_markdown, results_rows, summary_line, sweep_status
from sweeper.recommend.report.answer import answer_html
from sweeper.recommend.report.material import Material
from sweeper.search import TrialRecord

FORGOT = "eval/retention_increase"
BOUND = (
    SPACE + 'objective: {constraints: {eval/retention_increase: "<= 0.1"}}\nevaluation: {retention: auto}\n'
)


def forgetting(number: int, loss: float, forgot: float, **options) -> TrialRecord:
    one = trial(number, loss, **options)
    (evaluation,) = one.evaluations
    evaluation = replace(evaluation, metrics={"eval/loss": loss, FORGOT: forgot})
    return replace(one, evaluations=(evaluation,), decisive=evaluation)


@pytest.fixture
def space(tmp_path):
    return make_space(tmp_path, BOUND)


KEPT = [forgetting(0, 1.0, 0.0, is_default=True), forgetting(1, 0.6, 0.4), forgetting(2, 0.9, 0.05)]
BROKEN = [forgetting(0, 1.0, 0.3, is_default=True), forgetting(1, 0.6, 0.4)]


def test_the_sentence_says_how_many_keep_to_it(space):
    said = summary_line(space, KEPT)
    assert said.startswith("trial 2 reached eval/loss 0.9")
    assert said.endswith(f"; 2 of 3 complete trials keep to {FORGOT} <= 0.1; trial 2 has {FORGOT} 0.05")


def test_where_none_does_the_least_violating_one_is_named(space):
    said = summary_line(space, BROKEN)
    assert (
        f"none of 2 complete trials keeps to {FORGOT} <= 0.1: trial 0 breaks it least ({FORGOT} 0.3)" in said
    )


def provenance_of(space, trials) -> dict:
    text = answer(space, trials, {}, {}, "loss")
    return YAML(typ="safe").load(text)["provenance"]


def test_the_answer_carries_the_evidence(space):
    told = provenance_of(space, KEPT)
    assert (told["trial"], told["feasible"]) == (2, True)
    assert told["constraints"] == {FORGOT: {"bound": "<= 0.1", "value": 0.05}}
    assert provenance_of(space, BROKEN)["feasible"] is False


def test_the_table_and_the_files_have_the_bounded_metric(space):
    table = results_markdown(space, KEPT)
    assert "| retention_increase |" in table and "| 0.4 ! |" in table
    rows = results_rows(space, KEPT)
    assert [(row["trial"], row[FORGOT], row["feasible"]) for row in rows] == [
        (2, 0.05, True),
        (0, 0.0, True),
        (1, 0.4, False),
    ]


def test_status_tells_programs(space):
    status = json.loads(json.dumps(sweep_status(space, KEPT, "finished"), allow_nan=False))
    assert status["best"] == 2
    assert [one["feasible"] for one in status["trials"]] == [True, False, True]


def test_the_report_begins_with_it(space, tmp_path):
    page = answer_html(Material(space=space, trials=KEPT, root=tmp_path, state="finished"))
    assert "2 of 3 complete trials keep to eval/retention_increase" in page.replace("&lt;=", "<=")


def test_without_constraints_nothing_is_said(tmp_path):
    space = make_space(tmp_path)
    assert "keep" not in summary_line(space, KEPT)
    assert "feasible" not in provenance_of(space, KEPT)
    assert "feasible" not in results_rows(space, KEPT)[0]
