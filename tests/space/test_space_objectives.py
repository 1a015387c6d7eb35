"""One objective or two: the short form of the section."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from space_helpers import load_text

from sweeper.space import Objective, json_schema, make_plan


@pytest.mark.parametrize(
    ("written", "objective"),
    [
        ("[eval/loss]", Objective()),
        ("[eval/loss, cost]", Objective(also="gpu_seconds")),
        ("[eval/loss, tokens]", Objective(also="tokens")),
        ("[eval/exact_match, eval/loss]", Objective(metric="eval/exact_match", mode="max", also="eval/loss")),
        ("{metric: eval/loss, at: best, also: peak_memory}", Objective(at="best", also="peak_memory")),
    ],
)
def test_a_list_is_short_for_a_section(tmp_path, written, objective):
    space = load_text(tmp_path, f"objective: {written}\n")
    assert space.settings.objective == objective
    again = load_text(tmp_path, f"objective: {space.resolved()['objective']}\n")
    assert again.settings.objective == objective


@pytest.mark.parametrize("written", [["eval/loss"], ["eval/loss", "cost"], {"also": "tokens"}])
def test_editors_know_both_forms(written):
    tree = {"name": "t", "model_path": "m", "data_path": "d", "objective": written}
    assert Draft202012Validator(json_schema()).is_valid(tree)


@pytest.mark.parametrize("written", [[], ["eval/loss", "cost", "tokens"], ["eval/loss", "gpu_hours"]])
def test_editors_refuse_what_is_none(written):
    tree = {"name": "t", "model_path": "m", "data_path": "d", "objective": written}
    assert not Draft202012Validator(json_schema()).is_valid(tree)


def test_an_override_beside_the_short_form_keeps_it(tmp_path):
    space = load_text(tmp_path, "objective: [eval/loss, cost]\n", overrides=["objective.evaluations=4"])
    assert space.settings.objective == Objective(also="gpu_seconds", evaluations=4)
    assert dict(make_plan(space).summary())["objective"] == "eval/loss, min; also gpu_seconds, min"


def test_a_cost_that_no_open_value_changes_is_told(tmp_path):
    def notes(training: str) -> str:
        return " ".join(make_plan(load_text(tmp_path, f"objective: [eval/loss, tokens]\n{training}")).notes)

    said = "no open value changes how much a trial trains on"
    assert said in notes("training: {lr: [1e-4, 1e-3]}\n")
    assert said not in notes("training: {lr: [1e-4, 1e-3], epochs: [1, 2]}\n")


def test_a_second_objective_of_answers_has_them_generated(tmp_path):
    space = load_text(tmp_path, "objective: [eval/loss, eval/exact_match]\n")
    assert space.settings.generated_metrics == ("exact_match",)
