"""No broken space file hurts: ``validate`` and ``run`` refuse it at once, with status 2 and its fault."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_worker import CommandLine, Outcome
from space_corpus import BadFile, furnish, kept_files
from space_mutations import good_files, mutations

pytestmark = pytest.mark.slow

KEPT = {one.title: one for one in kept_files()}
GENERATED = 120
LIMIT_S = 2.0
LONGEST_MESSAGE = 60_000
SAMPLE = (
    "types: a word for a number",
    "yaml: aliases that grow tenfold eight times",
    "paths: a name with half of a surrogate pair",
)
"""Also run as a user runs them, each in a process of its own."""
EVERY_NTH_RUNS = 8
"""``run`` reads a file as ``validate`` does: so many of them show it, of all kinds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    furnish(folder)
    return folder


@pytest.fixture(scope="module")
def command(folder: Path) -> Iterator[CommandLine]:
    with CommandLine(folder) as command:
        yield command


def is_refused(outcome: Outcome) -> bool:
    """Time is the process's own, as another process may be at work on the same cores."""
    assert outcome.status == 2, outcome.told
    assert outcome.cpu_s < LIMIT_S
    assert 0 < len(outcome.told) < LONGEST_MESSAGE
    assert outcome.told.replace("\n", "").isprintable()
    return True


@pytest.mark.parametrize("title", KEPT)
def test_a_broken_file_is_refused_for_its_fault_and_leaves_nothing_behind(title, folder, command):
    bad: BadFile = KEPT[title]
    (folder / "s.yaml").write_bytes(bad.make())
    before = listed(folder)
    if bad.only_run:
        assert command("validate", "s.yaml").status == 0
    else:
        told = command("validate", "s.yaml")
        assert is_refused(told)
        assert not [part for part in bad.parts if part not in told.told], told.told
    if bad.only_run or list(KEPT).index(title) % EVERY_NTH_RUNS == 0:
        told = command("run", "s.yaml")
        assert is_refused(told)
        assert not [part for part in bad.parts if part not in told.told], told.told
    assert listed(folder) == before


def test_the_kept_files_are_many():
    assert len(KEPT) >= 600


def test_files_broken_at_random_are_refused_or_valid(folder, command):
    before, valid = listed(folder), 0
    for title, content in mutations(GENERATED, seed=0):
        (folder / "s.yaml").write_bytes(content)
        outcome = command("validate", "s.yaml")
        if outcome.status == 0:
            valid += 1
        else:
            assert is_refused(outcome), title
    assert listed(folder) == before | {"s.yaml"}
    assert valid < GENERATED / 4


@pytest.mark.parametrize("name", good_files())
def test_what_the_broken_files_are_made_of_is_valid(name, folder, command):
    (folder / "s.yaml").write_text(good_files()[name], encoding="utf-8")
    outcome = command("validate", "s.yaml")
    assert outcome.status == 0, outcome.told


@pytest.mark.parametrize("words", [("validate",), ("run",)])
@pytest.mark.parametrize("title", SAMPLE)
def test_a_process_of_its_own_says_the_same(words, title, folder):
    file = folder / "own.yaml"
    file.write_bytes(KEPT[title].make())
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", *words, file.name],
        cwd=folder,
        capture_output=True,
    )
    file.unlink()
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert KEPT[title].parts[-1].encode() in done.stderr


def test_a_hang_a_traceback_and_a_dead_process_are_seen(folder):
    """The worker that everything above rests on."""
    (folder / "ending.py").write_text("import os\nos._exit(3)\n")
    (folder / "waiting.py").write_text("import time\ntime.sleep(600)\n")
    (folder / "s.yaml").write_text("name: t\nmodel_path: model\ndata_path: rows.jsonl\n")
    with CommandLine(folder, hang_s=1.0) as command:
        assert "died" in command("validate", "s.yaml", "--set", "evaluation.metrics=[ending:f]").told
        outcome = command("validate", "s.yaml", "--set", "evaluation.metrics=[waiting:f]")
        assert outcome.hung and outcome.status is None
        assert command("validate", "s.yaml").status == 0
    for name in ("ending.py", "waiting.py"):
        (folder / name).unlink()


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"__pycache__"}
