"""Whole sweeps whose ledger is in a real PostgreSQL: the same trials, whatever dies on the way."""

from __future__ import annotations

import json
import shutil
import stat
import threading
from contextlib import contextmanager

import psycopg
import pytest
from driver_process import Driver
from leaks import leaks
from postgres_server import ENCODED, PASSWORD

from sweeper.commands import open_sweep, resume_sweep, run_sweep, sweep_state
from sweeper.errors import LedgerAwayError, SweepFolderError
from sweeper.search import Ledger, TrialState, database
from sweeper.space import SweepFolder

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS = 3
SECRETS = (PASSWORD, ENCODED)


def facts_of(folder):
    ledger = open_sweep(SweepFolder(folder))[1]
    return [
        (trial.number, trial.state, trial.values, [e.metrics["eval/loss"] for e in trial.evaluations])
        for trial in ledger.trials()
    ]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, write_space, postgres):
    """The folder of a finished sweep in a folder of its own, and everything that it printed."""
    home = tmp_path_factory.mktemp("ledger")
    file = write_space(home, search__trials=TRIALS, search__storage=postgres.address("first"))
    out = home / "sweeps" / "small"
    driver = Driver("run", file, "--out", out)
    assert driver.end() == 0, driver.said
    return out, driver.said


def test_a_sweep_runs_into_the_database_and_has_no_file_for_it(swept, postgres):
    out, _ = swept
    assert [state for _, state, _, _ in facts_of(out)] == [TrialState.COMPLETE] * TRIALS
    assert not SweepFolder(out).study_file.exists()
    with psycopg.connect(postgres.address("first")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM trials").fetchone()
    assert count == TRIALS


def test_the_password_is_in_the_secrets_file_and_nowhere_else(swept):
    out, screen = swept
    secrets = SweepFolder(out).secrets_file
    assert json.loads(secrets.read_text())["search.storage"].count(ENCODED) == 1
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    # The folder above holds MLflow's database and artifacts as well.
    assert leaks(out.parent, SECRETS, allowed=[secrets]) == []
    for command in (["status", out], ["status", out, "--json"], ["best", out]):
        asked = Driver(*command)
        assert asked.end() == 0, asked.said
        screen += asked.said
    assert not any(secret in screen for secret in SECRETS)
    assert ":***@127.0.0.1" in SweepFolder(out).space_file.read_text()
    assert "***" not in SweepFolder(out).best_config.read_text()


def test_a_folder_without_its_secrets_says_where_to_give_them_again(swept, postgres, tmp_path, monkeypatch):
    out, _ = swept
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "secrets.json").unlink()
    with pytest.raises(SweepFolderError, match=r"secrets\.json") as caught:
        open_sweep(SweepFolder(copy))
    assert "SWEEPER_STORAGE" in str(caught.value) and "PGPASSWORD" in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        assert facts_of(copy) == facts_of(out)
    monkeypatch.setenv("SWEEPER_STORAGE", postgres.address("first"))
    assert facts_of(copy) == facts_of(out)


def test_a_name_that_is_taken_or_a_server_that_is_away_leaves_nothing_behind(swept, write_space, tmp_path):
    out, _ = swept
    storage = json.loads(SweepFolder(out).secrets_file.read_text())["search.storage"]
    for address, said in (
        (storage, "already there"),
        (storage.replace("/first", "/none"), "cannot be opened"),
    ):
        file = write_space(tmp_path, search__storage=address)
        with pytest.raises(SweepFolderError, match=said) as caught:
            run_sweep(file, out=tmp_path / "again")
        assert not any(secret in str(caught.value) for secret in SECRETS)
        assert not (tmp_path / "again").exists()


def test_a_sweep_that_loses_its_driver_and_its_database_twice_ends_as_an_undisturbed_one(
    swept, write_space, postgres, tmp_path, monkeypatch
):
    file = write_space(tmp_path, search__trials=TRIALS, search__storage=postgres.address("second"))
    out, together = tmp_path / "sweeps" / "lost", Ledger.together

    # The driver is killed.
    driver = Driver("run", file, "--out", out).until("untrained model")
    driver.process.kill()
    driver.end()
    assert sweep_state(open_sweep(SweepFolder(out))[1], SweepFolder(out)) == "interrupted"

    # The server goes away for good: a clear end, and everything that was committed is kept.
    @contextmanager
    def stop_afterwards(ledger):
        with together(ledger):
            yield
        if any(one.evaluations for one in ledger.records.values()):
            postgres.stop()

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "together", stop_afterwards)
        patch.setattr(database, "_PATIENCE_S", 0.5)
        try:
            with pytest.raises(LedgerAwayError) as caught:
                resume_sweep(out)
        finally:
            postgres.start()
    assert f"sweeper resume {out}" in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    (begun,) = facts_of(out)
    assert begun[1] is TrialState.RUNNING and len(begun[3]) >= 1

    # The server is restarted while the sweep goes on.
    @contextmanager
    def restart_once(ledger):
        monkeypatch.setattr(Ledger, "together", together)
        with together(ledger):
            yield
            postgres.stop()
            starter = threading.Timer(1.0, postgres.start)
            starter.start()
        starter.join()

    monkeypatch.setattr(Ledger, "together", restart_once)
    resume_sweep(out)
    assert facts_of(out) == facts_of(swept[0])
    assert leaks(out.parent, SECRETS, allowed=[SweepFolder(out).secrets_file]) == []
