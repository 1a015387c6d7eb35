"""The JSON Schema accepts what the loader accepts, and refuses what an editor should underline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from space_helpers import load_text

from sweeper.space import dump_config, json_schema

jsonschema = pytest.importorskip("jsonschema")

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml"))
HEAD = {"name": "t", "model_path": "m", "data_path": "d"}


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_is_valid_by_the_schema(path, validator):
    validator.validate(YAML(typ="safe", pure=True).load(path))


def test_a_resolved_and_a_closed_file_are_valid_by_the_schema(tmp_path, validator):
    text = "training: {lr: auto, scheduler: [linear, exponential], lora: {rank: [4, 8]}}\n"
    text += "search: {time_budget: 2h}\n"
    space = load_text(tmp_path, text)
    for tree in (dump_config(space.resolved()), dump_config(space.close({}))):
        validator.validate(YAML(typ="safe", pure=True).load(tree))


@pytest.mark.parametrize(
    "training",
    [
        {"lr": "auto"},
        {"lr": 1e-4},
        {"lr": [1e-4, 1e-3]},
        {"lr": {"log_uniform": [1e-5, 1e-3], "when": {"scheduler": "linear"}}},
        {"lr": {"range_test": True}},
        {"lr": {"log_uniform": [1e-5, 1e-3], "range_test": True}},
        {"epochs": {"int": [1, 5], "step": 2}},
        {"lora": False},
        {"lora": {"rank": {"choice": [8, 32]}, "targets": ["q_proj"]}},
        None,
    ],
)
def test_what_the_design_allows_is_valid(training, validator):
    validator.validate({**HEAD, "training": training})


@pytest.mark.parametrize(
    "tree",
    [
        {"name": "t"},
        {**HEAD, "name": "a/b"},
        {**HEAD, "trainig": {}},
        {**HEAD, "training": {"lr": "fast"}},
        {**HEAD, "training": {"lr": []}},
        {**HEAD, "training": {"lr": {"log_uniform": [0, 1]}}},
        {**HEAD, "training": {"lr": {"uniform": [1]}}},
        {**HEAD, "training": {"lr": {"range_test": False}}},
        {**HEAD, "training": {"lr": {"choice": [1e-4], "range_test": True}}},
        {**HEAD, "training": {"epochs": {"range_test": True}}},
        {**HEAD, "training": {"max_seq_len": [512, 1024]}},
        {**HEAD, "training": {"epochs": [1, 1]}},
        {**HEAD, "training": {"lora": True}},
        {**HEAD, "parallel": {"dp": "auto"}},
        {**HEAD, "search": {"time_budget": 90}},
        {**HEAD, "search": {"time_budget": "soon"}},
    ],
)
def test_what_is_wrong_in_a_single_field_is_refused(tree, validator):
    assert not validator.is_valid(tree)


@pytest.mark.parametrize(
    ("data_path", "valid"),
    [
        ({"path": "a", "weight": 2, "format": "sharegpt"}, True),
        (["a", {"path": "b", "weight": 0.5}], True),
        ({"path": "a", "weight": -1}, False),
        ({"weight": 2}, False),
        ([{"path": "a", "wieght": 2}], False),
        ([], False),
    ],
)
def test_the_schema_knows_weighted_sources(data_path, valid, validator):
    assert validator.is_valid({**HEAD, "data_path": data_path}) is valid


def test_an_editor_gets_the_words_beneath_a_field():
    training = json_schema()["properties"]["training"]["properties"]
    assert training["lr"]["description"] == "Peak learning rate."
    assert "mix several" in json_schema()["properties"]["data_path"]["description"]
