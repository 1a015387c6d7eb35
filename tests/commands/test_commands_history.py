"""Real sweeps that learn from each other, and the commands about it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sweeper.cli import app
from sweeper.commands import resume_sweep, run_sweep
from sweeper.history import HistoryFile

pytestmark = pytest.mark.usefixtures("running_ray")


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory, write_space):
    """Two sweeps of one file, one after the other."""
    root = tmp_path_factory.mktemp("sweeps")
    space = {"trials": 3, "seed": 0, "history": str(root / "history.sqlite3")}
    file = write_space(root, search=space)
    first = run_sweep(file, out=root / "first")
    second = run_sweep(file, overrides=["search.trials=2", "search.seed=1"], out=root / "second")
    return first, second, root / "history.sqlite3"


def said(*words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == status, result.output
    return result.output


def test_the_second_sweep_begins_with_a_pick_of_history_and_then_the_rule_of_thumb(sweeps):
    first, second, _ = sweeps
    assert [one.is_default for one in first.trials] == [True, False, False]
    assert [one.is_default for one in second.trials] == [False, True]
    assert (second.folder.root / "history.json").is_file() and not (
        first.folder.root / "history.json"
    ).exists()


def test_history_has_the_sweeps_with_resolved_values_and_nothing_of_the_data(sweeps, few_rows):
    first, _, path = sweeps
    by_trials = {len(one.trials): one for one in HistoryFile(path).sweeps()}
    assert by_trials.keys() == {2, 3}
    for past, trial in zip(by_trials[3].trials, first.trials, strict=True):
        assert (
            past.config["training"]["lr"] == trial.values["lr"]
            and past.config["training"]["warmup_ratio"] == 0.03
        )
        assert past.evaluations[-1][1] == trial.value and past.peak_memory_gib > 0
    content = path.read_bytes() + (sweeps[1].folder.root / "history.json").read_bytes()
    for line in few_rows.read_text().splitlines()[:40]:
        for text in json.loads(line).values():
            assert len(text) < 12 or text.encode() not in content
    assert str(few_rows.parent).encode() not in content


def test_a_resumed_sweep_goes_by_the_snapshot_that_it_began_with(sweeps):
    _, second, path = sweeps
    before = (second.folder.root / "history.json").read_bytes()
    more = resume_sweep(second.folder.root, trials=3)
    assert len(more.trials) == 3 and (second.folder.root / "history.json").read_bytes() == before
    assert sorted(len(one.trials) for one in HistoryFile(path).sweeps()) == [3, 3]


def test_the_commands_list_show_export_import_and_forget(sweeps, tmp_path):
    first, _, path = sweeps
    file = ("--file", str(path))
    listed = json.loads(said("history", "list", "--json", *file))["sweeps"]
    assert [one["name"] for one in listed] == ["small", "small"] and listed[1]["trials"] == 3
    assert "small" in said("history", "list", *file)
    shown = said("history", "show", listed[1]["id"][:8], *file)
    assert f"{first.best.value:.4f}" in shown and "scheduler" in shown
    said("history", "export", listed[1]["id"], "--out", str(tmp_path / "one.json"), *file)
    other = ("--file", str(tmp_path / "other.sqlite3"))
    assert "3 trials" in said("history", "import", str(tmp_path / "one.json"), *other)
    assert "3 trials" in said("history", "import", str(first.folder.root), *other)  # the same sweep
    assert [one["id"] for one in json.loads(said("history", "list", "--json", *other))["sweeps"]] == [
        listed[1]["id"]
    ]
    assert "forgot small" in said("history", "forget", listed[1]["id"][:8], *other)
    assert json.loads(said("history", "list", "--json", *other))["sweeps"] == []
