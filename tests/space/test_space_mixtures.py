"""Open weights of data sources: dimensions like any other, which close into the sources."""

from __future__ import annotations

from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from space_helpers import FACTS, load_text, problems_of

from sweeper.space import dump_config, json_schema, trial_sizes, wider
from sweeper.space.config.values import Uniform

HEAD = "name: t\nmodel_path: m\n"
MIXED = """\
data_path:
  - {path: d/chat.jsonl, weight: {uniform: [0, 2]}}
  - {path: tools.json, weight: [0.5, 1]}
  - rest
"""
ROWS = replace(FACTS, train_rows=1000, source_rows=(600, 300, 100))


def load(folder, text=MIXED, **options):
    return load_text(folder, text, head=HEAD, **options)


def test_each_open_weight_is_a_dimension_named_by_its_source(tmp_path):
    space = load(tmp_path)
    assert [one.name for one in space.dimensions] == ["weight.chat", "weight.tools"]
    assert space.default_values() == {"weight.chat": 1.0, "weight.tools": 1.0}
    assert space.has_open_weights and not load(tmp_path, "data_path: [a, b]\n").has_open_weights


def test_sources_that_are_called_alike_are_named_by_their_places(tmp_path):
    sources = ", ".join(f"{{path: {path}, weight: [1, 2]}}" for path in ("a/x.json", "b/x.csv", "c"))
    space = load(tmp_path, f"data_path: [{sources}]\n")
    assert [one.name for one in space.dimensions] == ["weight.0", "weight.1", "weight.c"]


def test_a_trial_has_the_weights_that_it_was_asked_for(tmp_path):
    space = load(tmp_path)
    closed = space.close({"weight.chat": 0.25, "weight.tools": 0.5})
    assert [(one.path, one.weight) for one in closed.sources] == [
        ("d/chat.jsonl", 0.25),
        ("tools.json", 0.5),
        ("rest", 1.0),
    ]
    assert [one.weight for one in space.rows_config(closed).sources] == [1.0, 1.0, 1.0]


def test_rows_and_steps_follow_the_mixture(tmp_path):
    space = load(tmp_path, MIXED + "training: {epochs: 1, global_batch_size: 10}\n", facts=ROWS)
    assert space.train_rows(space.close({"weight.chat": 0, "weight.tools": 0.5})) == 250
    assert space.train_rows(space.close({})) == 1000
    assert {one.steps for one in trial_sizes(space)} == {25, 40, 145, 160}


def test_the_resolved_file_asks_the_same(tmp_path):
    space = load(tmp_path)
    assert load(tmp_path, dump_config(space.resolved()).partition("model_path: m\n")[2]) == space
    closed = load_text(tmp_path, dump_config(space.close({"weight.chat": 0.5})), head="")
    assert closed.close({}).sources[0].weight == 0.5


@pytest.mark.parametrize(
    ("weight", "good"),
    [({"uniform": [0, 2]}, True), ([0, 1], True), (0, True), (-1, False), ({"of": 1}, False)],
)
def test_editors_know_open_weights(weight, good):
    tree = {"name": "t", "model_path": "m", "data_path": ["a", {"path": "d", "weight": weight}]}
    assert Draft202012Validator(json_schema()).is_valid(tree) == good


def test_a_range_that_was_wrong_grows(tmp_path):
    space = load(tmp_path)
    assert wider(space.dimension("weight.chat"), "upper", 10) == Uniform(0, 4)
    assert wider(space.dimension("weight.chat"), "lower", 10) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "data_path: [{path: a, weight: [0, 1]}, {path: b, weight: {uniform: [0, 1]}}]\n",
            "nothing to train on",
        ),
        ("data_path: [{path: a, weight: 0}, {path: b, weight: 0}]\n", "nothing to train on"),
        (MIXED + "search: {proxy: {rows: 0.2}}\n", "a share of one mixture"),
        ("data_path: [{path: a, weight: {uniform: [2, 1]}}, b]\n", "lower bound is below"),
        ("data_path: [{path: a, weight: [-1, 1]}, b]\n", "weight must be"),
        ("data_path: [{path: a, weight: {int: [0, 2], when: {epochs: 1}}}, b]\n", "no conditions"),
        ("data_path: [{path: [a, c], weight: 1}, b]\n", "path must be"),
    ],
)
def test_what_cannot_be_mixed_is_refused(tmp_path, text, rule):
    (found,) = problems_of(tmp_path, text, head=HEAD)
    assert rule in found.rule


def test_a_mixture_too_small_for_one_batch_is_told_in_advance(tmp_path):
    text = "data_path: [{path: a, weight: {uniform: [0, 2]}}, b]\n"
    text += "training: {epochs: 1, global_batch_size: 200}\n"
    facts = replace(FACTS, train_rows=1000, source_rows=(900, 100))
    (found,) = problems_of(tmp_path, text, head=HEAD, facts=facts)
    assert "100 training rows x 1 epochs do not fill one global batch" in found.rule
