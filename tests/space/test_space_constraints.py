"""What the chosen trial has to keep to, as it stands in a file."""

from __future__ import annotations

import math

import pytest
from jsonschema import Draft202012Validator
from space_helpers import assert_told, load_text, problems_of

from sweeper.errors import SpaceFileError
from sweeper.space import (
    Evaluation,
    Objective,
    constraints_of,
    json_schema,
    make_plan,
    require_metrics,
    requirements,
    violation,
)

BOUND = 'objective: {constraints: {eval/retention_increase: "<= 0.1"}}\n'
RETENTION = "evaluation: {retention: auto}\n"


def test_a_bound_is_read_shown_and_written_again(tmp_path):
    space = load_text(tmp_path, BOUND + RETENTION)
    assert space.settings.objective == Objective(constraints={"eval/retention_increase": "<= 0.1"})
    assert space.settings.evaluation == Evaluation(retention="auto")
    assert dict(make_plan(space).summary())["objective"].endswith("min; with eval/retention_increase <= 0.1")
    tree = space.resolved()
    assert tree["objective"]["constraints"] == {"eval/retention_increase": "<= 0.1"}
    assert Draft202012Validator(json_schema()).is_valid({**tree, "objective": tree["objective"]})


def test_a_file_that_says_nothing_of_it_means_what_it_meant(tmp_path):
    space = load_text(tmp_path, "")
    assert space.settings.objective.constraints is None and space.settings.evaluation.retention is None
    assert constraints_of(space.settings.objective) == ()


@pytest.mark.parametrize(
    ("written", "rule", "remedy"),
    [
        ('{eval/retention_increase: "< 0.1"}', "a bound is <= or >=", 'write "<= 0.1"'),
        ("{eval/retention_increase: 0.1}", "a bound is <= or >=", 'write "<= 0.1"'),
        ('{eval/retention_increase: "> 2"}', "a bound is <= or >=", 'write ">= 2"'),
        ('{eval/retention_increase: "<= nan"}', "finite number", 'write "<= 0.1"'),
        ('{eval/retention_increase: "<= inf"}', "finite number", 'write "<= 0.1"'),
        ('{eval/retention_increase: "<= much"}', "finite number", 'write "<= 0.1"'),
        ("{eval/retention_increase: [1, 2]}", "a bound is <= or >=", 'write "<= 0.1"'),
        ('{train/loss: "<= 1"}', "names a logged metric", "eval/retention_increase"),
        ("[eval/loss]", "a mapping of metrics to bounds", "eval/retention_increase"),
        ("{}", "a mapping of metrics to bounds", "eval/retention_increase"),
    ],
)
def test_what_is_no_bound_is_refused(tmp_path, written, rule, remedy):
    (found,) = problems_of(tmp_path, f"objective: {{constraints: {written}}}\n{RETENTION}")
    assert rule in found.rule and remedy in found.remedy


def test_all_faults_are_told_at_once_each_in_its_place(tmp_path):
    text = 'objective:\n  constraints:\n    eval/loss: "= 1"\n    lr: "<= 1"\n    eval/perplexity: "<= 9"\n'
    assert [one.where for one in problems_of(tmp_path, text)] == ["s.yaml:6:16", "s.yaml:7:5"]


def test_a_metric_that_nobody_measures_is_refused(tmp_path):
    assert_told(
        tmp_path, 'objective: {constraints: {eval/los: "<= 1"}}\n', "4:26", "is none of", "eval/loss?"
    )
    assert_told(tmp_path, BOUND, "4:26", "none of the metrics", "retention: auto")


@pytest.mark.parametrize("metric", ["eval/loss", "eval/length", "perf/peak_memory_gib", "perf/step_s"])
def test_any_logged_metric_may_be_bounded(tmp_path, metric):
    text = f'objective: {{constraints: {{{metric}: ">= 1"}}}}\nevaluation: {{metrics: ["m:length"]}}\n'
    (bound,) = constraints_of(load_text(tmp_path, text).settings.objective)
    assert bound.text == f"{metric} >= 1"


def test_forgetting_may_be_an_objective_of_its_own(tmp_path):
    space = load_text(tmp_path, "objective: [eval/loss, eval/retention_increase]\n" + RETENTION)
    assert space.settings.objective.also == "eval/retention_increase"
    (found,) = problems_of(tmp_path, "objective: {metric: eval/retention_loss}\n")
    assert "retention: auto" in found.remedy


TASK = 'evaluation: {metrics: ["lm_eval:arc_easy"], lm_eval_tasks: tasks}\n'


def test_a_task_of_the_harness_may_be_an_objective_or_a_bound(tmp_path):
    space = load_text(tmp_path, 'objective: {constraints: {eval/arc_easy: ">= 0.5"}}\n' + TASK)
    assert space.settings.harness_tasks == ("arc_easy",) and space.settings.generated_metrics == ()
    text = "objective: {metric: eval/arc_easy, mode: max}\n" + TASK
    assert load_text(tmp_path, text).settings.objective.metric == "eval/arc_easy"
    (found,) = problems_of(tmp_path, "deepspeed: {zero_stage: 3}\n" + TASK)
    assert "one rank" in found.rule


def test_without_the_package_of_the_harness_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    with pytest.raises(SpaceFileError, match=r"sweeper\[lm-eval\]"):
        require_metrics(load_text(tmp_path, TASK))


def test_a_violation_is_the_sum_of_what_exceeds_the_bounds_in_parts_of_them():
    objective = Objective(constraints={"a/b": "<= 2", "a/c": ">= 0", "a/d": "<= 5"})
    assert violation(objective, {"a/b": 3.0, "a/c": -0.25, "a/d": 5.0}) == 0.5 + 0.25
    assert violation(objective, {"a/b": 3.0, "a/d": 5.0}) == math.inf  # not measured
    assert violation(objective, {"a/b": math.nan, "a/c": 1.0, "a/d": 5.0}) == math.inf
    assert violation(Objective(), {}) == 0
