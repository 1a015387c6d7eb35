"""Every command that prints results prints them for programs, too: one JSON object, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sweeper.cli.app import app
from sweeper.commands import load_sweep
from sweeper.space import SweepFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "recommend"))
from report_support import TEXT, space_of, sweep_of, written

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
WITHOUT = {
    "schema": "prints JSON already",
    "history export": "prints JSON already",
    "history import": "takes something in",
    "history forget": "removes something",
    "sync": "writes to MLflow",
    "ui": "serves pages",
}


def commands(group, before: str = ""):
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{before}{name} ")
        else:
            yield f"{before}{name}", one


def test_each_command_that_prints_results_takes_json():
    options = {
        name: {option for one in command.params for option in one.opts}
        for name, command in commands(typer.main.get_command(app))
    }
    assert WITHOUT.keys() <= options.keys()
    assert {name for name, opts in options.items() if "--json" not in opts} == WITHOUT.keys()


def test_the_page_for_programs_names_commands_and_keys_that_there_are():
    page = (QUICKSTART.parents[1] / "AGENTS.md").read_text(encoding="utf-8")
    known = dict(commands(typer.main.get_command(app)))
    named = set(re.findall(r"^sweeper (\w+)", page, flags=re.MULTILINE))
    assert named and named <= known.keys()
    assert set(re.findall(r"(--[a-z][a-z-]*)", page)) <= {
        option for one in known.values() for param in one.params for option in param.opts
    }
    assert len(page.splitlines()) <= 66


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> SweepFolder:
    """A finished sweep of eight trials, made by hand, with its answer."""
    from sweeper.recommend import write_answer

    root = tmp_path_factory.mktemp("json")
    space = space_of(root, TEXT)
    folder = SweepFolder(root / "demo")
    ledger = written(folder, space, sweep_of(space, 8))
    write_answer(space, ledger.trials(), folder, {}, {})
    return folder


def tree_of(*words: object) -> dict:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    assert isinstance(tree, dict)
    return tree


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("status", "DIR"), {"name", "state", "trials", "best"}),
        (("best", "DIR"), {"format", "config", "text", "notes"}),
        (("best", "DIR", "--format", "axolotl"), {"format", "config", "text", "notes"}),
        (("report", "DIR"), {"best", "advice", "next", "sure"}),
        (("validate", QUICKSTART), {"open", "fixed", "told", "warnings"}),
        (("run", QUICKSTART, "--dry-run"), {"open", "fixed", "told", "warnings"}),
        (("data", QUICKSTART, "--rows", 1), {"rows", "trained", "held_out"}),
        (("history", "list", "--file", "none.sqlite3"), {"file", "sweeps"}),
        (
            ("init", "--model", "builtin:quickstart", "--data", "builtin:quickstart"),
            {"written", "found", "assumed"},
        ),
    ],
)
def test_it_is_one_object_and_nothing_else(folder, tmp_path, monkeypatch, words, keys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeper.commands.report.vega_script", lambda: "/* vega */")
    assert keys <= tree_of(*(folder.root if one == "DIR" else one for one in words)).keys()


def test_the_best_as_data_is_the_file(folder):
    tree = tree_of("best", folder.root)
    assert tree["config"]["training"]["lr"] == pytest.approx(load_sweep(folder.root).best.values["lr"])


NOISY = """
import os, sys
import sweeper.commands as commands
def noisy(*given, **more):
    print("said by python"); os.write(1, b"said below python\\n")
    return commands.load_sweep(os.environ['ROOT'])
commands.run_sweep = noisy
from sweeper.cli import main
main()
"""


def test_what_a_sweep_says_meanwhile_goes_to_standard_error(folder):
    """Also what C libraries print."""
    arguments = [sys.executable, "-c", NOISY, "run", str(QUICKSTART), "--json"]
    own = os.environ | {"ROOT": str(folder.root)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert tree["next"]["command"].startswith("sweeper train") and tree["state"] == "finished"
    assert tree["best_config"] == str(folder.best_config) and tree["model"] is None
    assert "said by python" in done.stderr and "said below python" in done.stderr
