"""A whole sweep in an environment full of tokens, with a metric that prints them and raises them."""

from __future__ import annotations

import os

import pytest
from driver_process import Driver
from leaks import leaks

from sweeper.commands import open_sweep
from sweeper.search import TrialState
from sweeper.space import SweepFolder

pytestmark = pytest.mark.usefixtures("running_ray")

VARIABLES = {
    "HF_TOKEN": "hf_DistinctiveHubToken",
    "OPENAI_API_KEY": "sk-DistinctiveApiKey",
    "PGPASSWORD": "Distinctive/Pass word%41",
    "DATABASE_URL": "postgresql://me:Distinct%2Furl@db/x",
}
SECRETS = [*(VARIABLES[name] for name in list(VARIABLES)[:3]), "Distinct%2Furl", "Distinct/url"]

METRIC = """
import os, sys
from pathlib import Path

NAMES = ("HF_TOKEN", "OPENAI_API_KEY", "PGPASSWORD", "DATABASE_URL")

def tells(prompts, generations, references):
    said = " ".join(os.environ[name] for name in NAMES)
    print("printed", said)
    print("printed to stderr", said, file=sys.stderr)
    os.write(1, f"written past python {said}\\n".encode())
    os.system('echo "printed by a child $HF_TOKEN $PGPASSWORD"')
    calls = Path("calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    if len(calls.read_text()) > 2 and not Path("mended").exists():
        raise RuntimeError("no answer from " + said)
    return float(len(generations))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory, write_space, running_ray):
    """The folder that holds everything, and what a sweep that failed and its resuming said, with a Ray
    of its own, whose workers know the secrets."""
    home = tmp_path_factory.mktemp("secrets")
    (home / "own.py").write_text(METRIC)
    file = write_space(
        home,
        search={"trials": 2, "seed": 0},
        training__max_seq_len=64,
        evaluation={"metrics": ["own:tells"], "rows": 4, "max_new_tokens": 4},
        objective={"evaluations": 1},
    )
    out = home / "sweeps" / "small"
    environment = os.environ | VARIABLES
    del environment["RAY_ADDRESS"]
    screens = []
    for arguments, status in ((["run", file, "--out", out], 2), (["resume", out], 0)):
        driver = Driver(*arguments, env=environment, cwd=home)
        assert driver.end() == status, driver.said
        screens.append(driver.said)
        (home / "mended").touch()
    return home, screens


def test_no_secret_of_the_environment_is_in_any_file(told):
    home, _ = told
    assert (home / "sweeps" / "mlflow.db").is_file() and (home / "sweeps" / "mlartifacts").is_dir()
    assert leaks(home, SECRETS) == []


def test_no_secret_of_the_environment_is_on_the_screen(told):
    _, (failed, finished) = told
    assert "no answer from *** *** ***" in failed
    assert not any(secret in failed + finished for secret in SECRETS)


def test_what_was_printed_is_in_the_log_with_the_secrets_struck_out(told):
    home, _ = told
    folder = SweepFolder(home / "sweeps" / "small")
    assert [trial.state for trial in open_sweep(folder)[1].trials()] == [TrialState.COMPLETE] * 2
    for number in (0, 1):
        log = folder.trial_log(number).read_text()
        for line in ("printed ***", "printed to stderr ***", "written past python ***", "by a child *** ***"):
            assert line in log
    assert "RuntimeError: no answer from ***" in log
