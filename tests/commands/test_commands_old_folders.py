"""Folders that version dd1f124 left behind: today's code goes on with them from where they stood.

``old_folders/make.py`` made them and says how; ``old_folders/README.md`` says what is in them.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
from old_folders.make import facts_of, hardware, processor, weights_of
from warm_processes import Forked

from sweeper.commands import sweep_state
from sweeper.data import gather_facts
from sweeper.space import SweepFolder, load_space, require_closed
from sweeper.sweep.steps import read_steps
from sweeper.sweep.stored import open_sweep
from sweeper.track import read_trials, tracking_uri

OLD = Path(__file__).parent / "old_folders"
KEPT = OLD / "dd1f124"
EXPECTED: dict[str, Any] = json.loads((KEPT / "expected.json").read_text())
SWEEPS = ("interrupted", "measured", "out-of-memory")


def unpacked(root: Path) -> Path:
    """All folders where they can be worked on. Their paths are relative to ``root``; only MLflow stores
    absolute ones, which are replaced here."""
    for archive in sorted(KEPT.glob("*.tar.xz")):
        with tarfile.open(archive) as content:
            content.extractall(root, filter="data")
    with sqlite3.connect(root / "sweeps" / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            moved = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(moved, (EXPECTED["root"], str(root)))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return unpacked(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def before(root) -> dict[str, int]:
    """Steps of the interrupted trials before they go on, by sweep and number."""
    return {
        f"{name}/{number}": len(read_steps(SweepFolder(root / "sweeps" / name).trial_steps(int(number))))
        for name in SWEEPS
        for number in EXPECTED["before"][name]
    }


@pytest.fixture(scope="module")
def said(root, before, running_ray) -> dict[str, str]:
    """What resuming them all says; without Ray's start and torch's import for each."""
    process = Forked(str(OLD / "resume_all.py"), cwd=root)
    printed = process.stdout.read()
    assert process.wait() == 0
    return dict(json.loads(printed.splitlines()[-1]))


HERE = EXPECTED["on_other_processors"].get(processor())
IS_KNOWN = HERE is not None and HERE["hardware"] == hardware()
END = HERE if IS_KNOWN else EXPECTED
"""What that version itself came to when it went on, on this kind of processor if it was tried there."""


def same(value: Any) -> Any:
    """To the last bit where that version went on with the same folders on such a processor, else nearly."""
    if IS_KNOWN:
        return value
    if isinstance(value, dict):
        return {name: same(one) for name, one in value.items()}
    return pytest.approx(value, rel=1e-3) if isinstance(value, float) else value


def test_the_folders_are_what_they_are_said_to_be():
    """Each with what only an interrupted run has; otherwise the tests below would prove little."""
    before = EXPECTED["before"]
    assert [trial["state"] for trial in before["interrupted"].values()] == ["COMPLETE", "RUNNING"]
    assert {trial["concurrent"] for trial in before["measured"].values()} == {2}
    assert before["measured"]["0"]["batch"] == 16  # the rule of thumb has 8
    assert before["out-of-memory"]["0"]["setbacks"] == [True]
    assert before["out-of-memory"]["1"]["setbacks"] == [False]
    assert before["out-of-memory"]["1"]["batch"] == 256  # 512 were asked for


@pytest.mark.parametrize("name", SWEEPS)
def test_an_old_sweep_comes_to_the_end_that_its_own_version_came_to(name, root, said):
    sweep = root / "sweeps" / name
    assert "warnings: []" in said[name], said[name]
    assert facts_of(sweep) == same(END["resumed"][name])
    space, ledger = open_sweep(SweepFolder(sweep))
    assert sweep_state(ledger, SweepFolder(sweep)) == "finished"
    tracked = read_trials(tracking_uri(space.settings, sweep), name)
    assert [(one.number, one.status) for one in tracked] == [
        (trial.number, "FINISHED") for trial in ledger.trials()
    ]


@pytest.mark.parametrize("name", SWEEPS)
def test_what_was_measured_of_an_old_sweep_stays_as_it_is(name, root, said):
    now = facts_of(root / "sweeps" / name)
    for number, trial in EXPECTED["before"][name].items():
        kept = {tokens: now[number]["losses"].get(tokens) for tokens in trial["losses"]}
        assert kept == trial["losses"]
        if trial["state"] != "RUNNING":
            assert now[number] == trial


@pytest.mark.parametrize("name", SWEEPS)
def test_an_interrupted_trial_goes_on_from_its_state_and_repeats_no_step(name, root, before, said):
    for number, trial in EXPECTED["before"][name].items():
        file = SweepFolder(root / "sweeps" / name).trial_steps(int(number))
        written = len(file.read_text().splitlines())
        assert written == len(read_steps(file)) >= before[f"{name}/{number}"], said[name]
        if trial["state"] == "RUNNING" and trial["losses"]:
            assert 0 < before[f"{name}/{number}"] < written


@pytest.mark.parametrize("name", SWEEPS)
def test_the_answer_of_an_old_sweep_is_written(name, root, said, monkeypatch):
    monkeypatch.chdir(root)
    answer = load_space(SweepFolder(root / "sweeps" / name).best_config, gather=gather_facts)
    require_closed(answer)
    losses = [list(trial["losses"].values())[-1] for trial in END["resumed"][name].values()]
    config = answer.close({})
    assert config.provenance["value"] == same(min(losses))
    assert config.learn_template_text  # as it was when the sweep began


def test_nothing_is_measured_again_that_an_old_ledger_has(said):
    assert "autotune" not in said["measured"]
    assert "out of memory" not in said["out-of-memory"]


def test_an_old_training_goes_on_to_the_same_weights(root, said):
    assert "going on from step-" in said["train"], said["train"]
    assert weights_of(root / "models" / "train") == same(END["trained"])
