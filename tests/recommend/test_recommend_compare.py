"""Sweeps beside each other: what of one's answer holds in another, by that other's own trials."""

from __future__ import annotations

import json
import math

import pytest
from compared_sweeps import bowl_at, side, space_with
from report_support import TEXT, record, space_of, sweep_of, written
from typer.testing import CliRunner

from sweeper.cli.app import app
from sweeper.errors import UserError
from sweeper.recommend.compare import compare, comparison_html, verdicts
from sweeper.recommend.report import Material
from sweeper.space import SweepFolder


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Two sweeps with the same best values, and one of a small model whose rate is ten times theirs by the
    rule of thumb, and whose scheduler is another."""
    folder = tmp_path_factory.mktemp("three")
    narrow = round(2000 * 10 ** (-1 / 0.781))
    return [
        side(folder, "one", bowl_at(3e-4)),
        side(folder, "same", bowl_at(3e-4), seed=5),
        side(folder, "small", bowl_at(3e-3, "linear"), seed=9, hidden=narrow),
    ]


def test_equal_sweeps_carry_over_and_the_rest_is_told_apart_with_numbers(three):
    found = compare(three)
    settings = {one.path: one for one in found.settings}
    equal = {one.path: one for one in compare(three[:2]).settings}
    assert equal["training.scheduler"].verdict == "carries over"
    assert equal["training.lr"].verdict != "does not carry over"
    assert settings["training.scheduler"].verdict == "does not carry over"
    assert settings["training.lr"].verdict == "does not carry over"
    assert settings["training.lr / rule of thumb"].verdict != "does not carry over"
    (worst,) = [one for one in found.transfers if (one.source, one.target) == ("one", "small")]
    (near,) = [one for one in found.transfers if (one.source, one.target) == ("one", "same")]
    assert worst.as_it_is.regret > 0.3 and worst.as_it_is.low > 0.1 and worst.as_it_is.rank > 5
    assert abs(near.as_it_is.regret) < 0.1 and near.as_it_is.rank <= 5
    assert worst.by_lr_ratio.regret < worst.as_it_is.regret - 0.1
    ratios = {one.label: one.lr / one.rule_lr for one in found.sides}
    assert 0.3 < ratios["small"] / ratios["one"] < 3
    assert any("training.scheduler does not carry over" in one for one in verdicts(found))


def test_the_program_gets_strict_json_and_the_page_holds_every_number(three):
    found = compare(three)
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["name"] for one in tree["sweeps"]] == ["one", "same", "small"]
    assert len(tree["transfers"]) == 6 and tree["sweeps"][0]["lr"]["rule_of_thumb"] == pytest.approx(5e-5)
    page = comparison_html(found, "")
    assert "http" not in page.split('type="application/json"')[0].replace("http-equiv", "")
    assert "does not carry over" in page and page.count("<table") >= 3


def test_few_trials_are_judged_by_the_nearest_one_and_the_settings_by_none(tmp_path):
    sides = [side(tmp_path, name, bowl_at(best), count=4) for name, best in (("a", 1e-3), ("b", 1e-4))]
    found = compare(sides)
    assert {one.as_it_is.by for one in found.transfers} <= {"nearest trial", "that trial"}
    assert {one.verdict for one in found.settings} == {"not clear"}


def test_values_that_the_other_never_had_are_named(tmp_path):
    other = TEXT.replace("scheduler: [constant, linear, cosine]", "scheduler: [constant, linear]").replace(
        "epochs: [1, 2, 3]", "epochs: 1"
    )
    space = space_with(tmp_path / "b", "b", text=other)
    values = [
        {"lr": 10 ** (-5 + 0.2 * n), "scheduler": "linear", "gradient_accumulation_steps": 1}
        for n in range(12)
    ]
    trials = [record(n, one, 1 + abs(math.log10(one["lr"]) + 4)) for n, one in enumerate(values)]
    b = Material(space=space, trials=trials, root=tmp_path / "b", state="finished")
    found = compare([side(tmp_path, "a", bowl_at(3e-4)), b])
    (into,) = [one for one in found.transfers if one.target == "b"]
    assert into.not_there == ("training.scheduler",)
    assert all(one.path != "training.epochs" for one in found.settings)


def test_what_cannot_be_compared_is_refused_by_name_all_at_once(tmp_path):
    a, b, c = (side(tmp_path, name, bowl_at(1e-3), count=4) for name in "abc")
    accuracy = space_with(tmp_path / "d", "d", text=TEXT + "objective: {metric: eval/token_accuracy}\n")
    d = Material(space=accuracy, trials=a.trials, root=tmp_path / "d", state="finished")
    empty = Material(space=c.space, trials=[], root=tmp_path / "c", state="interrupted")
    with pytest.raises(UserError) as caught:
        compare([a, b, d, empty])
    told = {one.where for one in caught.value.problems}
    assert told == {str(tmp_path / "d"), str(tmp_path / "c")}
    assert "eval/token_accuracy (max)" in str(caught.value)
    with pytest.raises(UserError, match="two sweeps or more"):
        compare([a, a])


def test_compare_prints_a_table_and_writes_a_page_and_only_json_for_programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, best in (("a", 3e-4), ("b", 1e-3)):
        folder = tmp_path / f"{name}-space"
        folder.mkdir()
        space = space_of(folder, TEXT.replace("name: demo", f"name: {name}"))
        written(SweepFolder(tmp_path / name), space, sweep_of(space, 8, bowl_at(best)))
    told = CliRunner().invoke(app, ["compare", "a", "b", "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout)["metric"] == "eval/loss"
    assert not (tmp_path / "comparison.html").exists()
    shown = CliRunner().invoke(app, ["compare", "a", "b"])
    assert shown.exit_code == 0 and "the whole comparison: comparison.html" in shown.stdout
    assert (tmp_path / "comparison.html").is_file()
    missing = CliRunner().invoke(app, ["compare", "a", "nowhere", "b", "none"])
    assert [one.where for one in missing.exception.problems] == ["nowhere", "none"]
