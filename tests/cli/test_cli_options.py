"""What people try by habit: --version, --dry-run, -v and -q, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper import __version__
from sweeper.cli import app

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"


def said(*arguments: object) -> str:
    shown = CliRunner().invoke(app, [str(one) for one in arguments])
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_the_version_is_said():
    assert said("--version") == f"sweeper {__version__}\n"


def test_a_dry_run_prints_what_validate_prints_and_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ("--set", "training.epochs=2")
    dry = said("run", QUICKSTART, "--dry-run", "--trials", 7, "--out", "elsewhere", *more)
    validated = said(
        "validate", QUICKSTART, "--set", "search.trials=7", "--set", "checkpoint_path=elsewhere", *more
    )
    assert dry == validated and "quickstart in elsewhere" in dry and "7 trials" in dry
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "resume", "train", "autotune", "lr-range"])
def test_loud_and_quiet_at_once_is_refused(command, tmp_path):
    shown = CliRunner().invoke(app, [command, str(tmp_path), "-v", "-q"])
    assert shown.exit_code == 2
    assert "give" in shown.output and "one of them" in shown.output


def test_the_shell_completes_commands_and_options():
    program = "import sys; sys.argv[0] = 'sweeper'; from sweeper.cli import main; main()"
    for words, expected in (("sweeper resu", "resume"), ("sweeper resume --tri", "--trials")):
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        shell = os.environ | {"_SWEEPER_COMPLETE": "complete_bash"} | asked
        done = subprocess.run([sys.executable, "-c", program], env=shell, capture_output=True, check=True)
        assert done.stdout.decode().split() == [expected]
    assert "--install-completion" in said("--help") and "--show-completion" in said("--help")
