"""``data_path``: a path, a mapping with a weight and a format, or a list of both."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML
from space_helpers import load_text, problems_of

from sweeper.space import DataSource, Space, dump_config

HEAD = "name: t\nmodel_path: m\n"

# what is wrong -> data_path, line:column, part of the rule, part of the remedy
CASES = {
    "an unknown key": (
        "[{path: a, wieght: 2}]",
        "3:23",
        "not a key of a data source",
        "did you mean weight?",
    ),
    "a key of nothing": ("{path: a, xyz: 2}", "3:22", "not a key of a data source", "path, weight, format"),
    "a weight below nothing": ("[{path: a, weight: -1}]", "3:31", "weight must be a number >= 0", ">= 0"),
    "no rows at all": ("[{path: a, weight: 0}]", "3:12", "nothing to train on", "above 0"),
    "a weight of too much": ("[{path: a, weight: 1e9}]", "3:31", "<= 1000", "<= 1000"),
    "a quoted weight": ('[{path: a, weight: "2"}]', "3:31", "a number >= 0", "without quotes"),
    "an open weight": ("[{path: a, weight: [1, 2]}]", "3:31", "no more than epochs does", "training.epochs"),
    "no path": ("[b, {weight: 2}]", "3:16", "has a path", "add `path: ...`"),
    "an empty path": ('{path: ""}', "3:19", "not empty", "not empty"),
    "a path that is a number": ("{path: 7}", "3:19", "a text", 'in quotes: "7"'),
    "a misspelt format": ("{path: a, format: alpacca}", "3:30", "one of auto, alpaca", "write alpaca"),
    "an item that is no source": ("[a, 7]", "3:16", "a path or a mapping", 'in quotes: "7"'),
    "a list in the list": ("[a, [b]]", "3:16", "a path or a mapping", "mapping of path"),
    "an empty list": ("[]", "3:12", "at least one source", "not empty"),
    "an open path": ("{choice: [a, b]}", "3:12", "the same for every trial", "write one value"),
}


def load(folder, data_path: str, more: str = "") -> Space:
    return load_text(folder, f"data_path: {data_path}\n{more}", head=HEAD)


@pytest.mark.parametrize("name", CASES)
def test_a_faulty_source_is_told_at_its_place(name, tmp_path):
    data_path, place, rule, remedy = CASES[name]
    (problem,) = problems_of(tmp_path, f"data_path: {data_path}\n", head=HEAD)
    assert problem.where == f"s.yaml:{place}"
    assert rule in problem.rule
    assert remedy in problem.remedy


def test_every_fault_of_every_source_is_told(tmp_path):
    text = "data_path: [{weight: -1}, 3, {path: a, format: x, q: 1}]\n"
    places = [problem.where for problem in problems_of(tmp_path, text, head=HEAD)]
    assert places == [f"s.yaml:3:{column}" for column in (13, 22, 27, 48, 51)]


@pytest.mark.parametrize(
    ("data_path", "sources"),
    [
        ("a", [DataSource(path="a", format="text")]),
        ("{path: a}", [DataSource(path="a", format="text")]),
        ("{path: a, weight: 2, format: alpaca}", [DataSource(path="a", weight=2, format="alpaca")]),
        (
            "[a, {path: b, weight: 0.5}, {path: c, format: messages}]",
            [
                DataSource(path="a", format="text"),
                DataSource(path="b", weight=0.5, format="text"),
                DataSource(path="c", format="messages"),
            ],
        ),
    ],
)
def test_however_it_is_written_it_is_a_list_of_sources(data_path, sources, tmp_path):
    space = load(tmp_path, data_path, "data_format: text\n")
    assert list(space.settings.sources) == sources


def test_sources_are_written_back_as_a_person_writes_them(tmp_path):
    space = load(tmp_path, "[a, {path: b, weight: 2.0, format: auto}, {path: c, weight: 0.5}]")
    for tree in (dump_config(space.resolved()), dump_config(space.close({}))):
        read = YAML(typ="safe", pure=True).load(tree)["data_path"]
        assert read == ["a", {"path": "b", "weight": 2}, {"path": "c", "weight": 0.5}]


def test_the_new_fields_have_defaults_and_bounds(tmp_path):
    config = load(tmp_path, "a").close({})
    assert (config.chat_template, config.max_bad_rows, config.training.overlong) == ("auto", 0, "truncate")
    text = "data_path: a\nmax_bad_rows: -1\nchat_template: 3\ntraining: {overlong: [drop, truncate]}\n"
    assert len(problems_of(tmp_path, text, head=HEAD)) == 3


def test_an_override_can_name_sources_too(tmp_path):
    overrides = ["data_path=[a, {path: b, weight: 2}]"]
    space = load_text(tmp_path, "data_path: x\n", head=HEAD, overrides=overrides)
    assert space.settings.data_path == ("a", DataSource(path="b", weight=2))
    overrides = ["data_path={path: b, weight: 0}"]
    (problem,) = problems_of(tmp_path, "data_path: x\n", head=HEAD, overrides=overrides)
    assert problem.where == "--set data_path={path: b, weight: 0}"
