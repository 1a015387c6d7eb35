"""Metrics of generated answers: what the objective can be, and functions of the user's own."""

from __future__ import annotations

import sys

import pytest
from ruamel.yaml import YAML
from space_helpers import load_text, problems_of

from sweeper.errors import SpaceFileError, UserError
from sweeper.space import dump_config, json_schema, load_metric, load_space, make_plan, require_metrics

OWN = "evaluation: {metrics: [exact_match, scores:longest]}\nobjective: {metric: eval/longest, mode: max}\n"


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """``scores.py`` in the working directory; what it has put into this process is taken out again."""
    (tmp_path / "scores.py").write_text(
        "def longest(prompts, generations, references):\n    return max(map(len, generations))\n"
        "def of_two(prompts, generations):\n    return 0\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("scores", "broken"):
        sys.modules.pop(name, None)


def test_exact_match_as_the_objective_is_computed_and_maximised_without_further_words(tmp_path):
    settings = load_text(tmp_path, "objective: {metric: eval/exact_match}\n").settings
    assert settings.objective.mode == "max"
    assert settings.evaluation.metrics == ()
    assert settings.generated_metrics == ("exact_match",)


def test_no_answers_are_generated_unless_asked_for(tmp_path):
    space = load_text(tmp_path, "training: {lr: auto}\n")
    assert space.settings.generated_metrics == ()
    assert not any("generated" in value for _, value in make_plan(space).summary())


def test_a_function_of_the_users_own_can_be_the_objective_in_the_mode_that_the_file_says(tmp_path):
    for mode in ("min", "max"):
        settings = load_text(tmp_path, OWN.replace("max", mode)).settings
        assert (settings.objective.metric, settings.objective.mode) == ("eval/longest", mode)
        assert settings.generated_metrics == ("exact_match", "scores:longest")


def test_the_plan_says_how_many_answers_are_generated_for_what(tmp_path):
    said = dict(make_plan(load_text(tmp_path, OWN)).summary())["evaluations"]
    assert said == "8 per trial, each with 64 generated answers for eval/exact_match, eval/longest"


def test_a_trial_is_judged_by_its_end_unless_its_best_evaluation_is_asked_for(tmp_path):
    assert load_text(tmp_path, "").settings.objective.at == "end"
    assert dict(make_plan(load_text(tmp_path, "")).summary())["objective"] == "eval/loss, min"
    best = load_text(tmp_path, "objective: {at: best}\n")
    assert "best evaluation" in dict(make_plan(best).summary())["objective"]


@pytest.mark.parametrize("setting", ["keep_last: 0", "keep_best: false"])
def test_the_best_evaluations_model_needs_its_state_so_that_must_be_kept(tmp_path, setting):
    text = f"objective: {{at: best}}\ncheckpoints: {{{setting}}}\n"
    (problem,) = problems_of(tmp_path, text)
    assert problem.where.startswith("s.yaml:5:") and problem.value == setting
    assert "at: end" in problem.remedy and "state" in problem.rule
    load_text(tmp_path, text.replace("best}", "end}"))
    load_text(tmp_path, "objective: {at: best}\ncheckpoints: {model: none}\n")  # then no model is kept


def test_a_best_config_asks_for_the_same_metrics(tmp_path):
    space = load_text(tmp_path, OWN + "training: {lr: 1e-4}\n")
    file = tmp_path / "best.yaml"
    file.write_text(dump_config(space.close({})))
    again = load_space(file, gather=lambda _: space.facts)
    assert again.settings == space.settings
    file.write_text(dump_config(space.resolved()))
    assert load_space(file, gather=lambda _: space.facts) == space


def test_the_schema_knows_the_metrics(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    head = {"name": "t", "model_path": "m", "data_path": "d"}
    validator.validate({**head, **YAML(typ="safe", pure=True).load(OWN)})
    assert not validator.is_valid({**head, "evaluation": {"metrics": ["rouge"]}})
    assert not validator.is_valid({**head, "objective": {"metric": "loss"}})


def test_a_pipeline_generates_no_answers(tmp_path):
    text = "parallel: {pp: 2}\nevaluation: {metrics: [exact_match]}\n"
    assert any("a pipeline" in one.rule and one.where == "s.yaml:5:23" for one in problems_of(tmp_path, text))
    text = "parallel: {pp: 2}\nobjective: {metric: eval/exact_match}\n"
    assert any("a pipeline" in one.rule and one.where == "s.yaml:5:21" for one in problems_of(tmp_path, text))


def test_a_function_in_the_working_directory_is_found(own_module):
    require_metrics(load_text(own_module, OWN))
    assert load_metric("scores:longest", own_module)([""], ["four"], [""]) == 4


@pytest.mark.parametrize(
    ("entry", "rule", "remedy"),
    [
        ("no_such_module:longest", "cannot be imported .ModuleNotFoundError", "name a module in"),
        ("broken:score", "cannot be imported .ZeroDivisionError", "name a module in"),
        ("scores:longes", "has no function longes", "did you mean longest"),
        ("scores:number", "has no function number", "it has: longest, of_two"),
        ("scores:of_two", "does not take three arguments", "prompts, generations, references"),
    ],
)
def test_a_function_that_cannot_be_used_is_named_at_its_place(own_module, entry, rule, remedy):
    (own_module / "broken.py").write_text("1 / 0\n")
    space = load_text(own_module, f"evaluation: {{metrics: [{entry}]}}\n")
    with pytest.raises(SpaceFileError, match=rf"s\.yaml:4:23: {entry}: .*{rule}") as caught:
        require_metrics(space)
    assert remedy in caught.value.problems[0].remedy
    with pytest.raises(UserError):
        load_metric(entry, own_module)
