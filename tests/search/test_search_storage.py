"""A ledger in a database of the user's own: its address, its absence, and answers that are lost."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading

import optuna
import pytest
from postgres_server import ENCODED, PASSWORD
from search_support import evaluation, sweep, train
from sqlalchemy import event

from sweeper.errors import LedgerAwayError, SpaceFileError, SweepFolderError
from sweeper.search import Ledger, TrialState, check_storage, database, is_committing, retrying_storage
from sweeper.space import dump_config

ADDRESS = "postgresql://me:s%40cretive@db/x"


def storage_is(address: str) -> str:
    return f"search.storage={json.dumps(address)}"


BAD = {
    "a kind that there is not": ("oracle://me:s%40cretive@db/x", "no kind of database", "postgresql://"),
    "an old name": ("postgres://me:s%40cretive@db/x", "no kind of database", "write postgresql://"),
    "no address": ("s%40cretive", "no kind of database", "postgresql://"),
    "no database": ("postgresql://me:s%40cretive@db:5432/", "no database", "host/database"),
    "a password as it is": ("postgresql://me:s/cretive@db/x", "cannot be told", "percent-encoded"),
    "a password with an @": ("postgresql://me:cre@cretive@db/x", "cannot be told", "@ is %40"),
    "a password struck out": ("postgresql://me:***@db/x", "struck out", "write the password"),
    "a port that is none": ("postgresql://me:s%40cretive@db:port/x", "cannot be told", "host:port"),
    "a database in memory": ("sqlite:///:memory:", "no SQLite file", "path/to"),
    "a folder that is not there": ("sqlite:///nowhere/at/all/study.db", "does not exist", "make it"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(space_of, case):
    address, rule, remedy = BAD[case]
    space = space_of("\n  lr: auto\n", storage_is(address))
    with pytest.raises(SpaceFileError) as caught:
        check_storage(space)
    (problem,) = caught.value.problems
    assert rule in problem.rule and remedy in problem.remedy
    assert "search.storage" in problem.where
    assert address == "s%40cretive" or "cretive" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named_with_its_extra(space_of, monkeypatch):
    from sweeper.search import storage

    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    for address, extra in ((ADDRESS, "sweeper[postgresql]"), ("mysql+pymysql://db/x", "sweeper[mysql]")):
        with pytest.raises(SpaceFileError, match="no driver") as caught:
            check_storage(space_of("\n  lr: auto\n", storage_is(address)))
        assert extra in str(caught.value)


@pytest.mark.parametrize("address", [None, ADDRESS, "postgresql+psycopg://db/x", "postgresql:///x?host=/run"])
def test_an_address_that_can_be_used_is_accepted(space_of, address):
    overrides = [] if address is None else [storage_is(address)]
    check_storage(space_of("\n  lr: auto\n", *overrides))


def test_no_resolved_or_closed_file_holds_the_password(space_of):
    space = space_of("\n  lr: auto\n", storage_is(ADDRESS), "tracking.mlflow_uri=http://t0ken@host")
    assert space.settings.search.storage == ADDRESS
    for text in (dump_config(space.resolved()), dump_config(space.close({}))):
        assert "postgresql://me:***@db/x" in text and "http://***@host" in text
        assert "cretive" not in text and "t0ken" not in text


def test_a_server_that_refuses_or_never_answers_is_told_and_not_waited_for(space_of, monkeypatch):
    monkeypatch.setattr(database, "_CONNECT_TIMEOUT_S", 2)  # libpq's least
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        addresses = [f"postgresql://me:s%40cretive@127.0.0.1:{port}/x"]
        for _ in range(2):
            with pytest.raises(SweepFolderError, match="cannot be opened") as caught:
                Ledger.create(addresses[0], space_of())
            assert "cretive" not in str(caught.value)
            silent.listen(1)  # takes the connection, and says nothing


def test_a_ledger_in_postgresql_keeps_what_one_in_a_file_keeps(space_of, url, postgres):
    ledgers = [Ledger.create(url, space_of()), Ledger.create(postgres.address("same"), space_of())]
    for ledger in ledgers:
        sweep(ledger, 4, lambda values: values["lr"])
        ledger.note_untrained(4.5)
        ledger.note_sweep(versions={"torch": "2"})
        running = ledger.ask()
        ledger.note(running.number, config={"a": [1, 2.5, None]})
        ledger.report(running.number, evaluation(100, float("nan")))
        ledger.note(0, kept=True)

    def facts(ledger: Ledger) -> list[object]:
        return [
            (t.number, t.state, t.values, str(t.evaluations), t.is_default, t.attributes)
            for t in ledger.trials()
        ]

    assert facts(ledgers[0]) == facts(ledgers[1])
    again = Ledger.open(postgres.address("same"), space_of())
    assert (facts(again), again.untrained) == (facts(ledgers[1]), 4.5)


def test_two_sweeps_of_one_name_in_one_database_are_refused(space_of, postgres):
    Ledger.create(postgres.address("names"), space_of())
    with pytest.raises(SweepFolderError, match="already there") as caught:
        Ledger.create(postgres.address("names"), space_of())
    assert "another name than trying" in str(caught.value)
    Ledger.create(postgres.address("names"), space_of(name="other"))


def test_reading_a_database_without_a_sweep_makes_nothing_in_it(space_of, postgres):
    address = postgres.address("empty")
    for _ in range(2):
        with pytest.raises(SweepFolderError, match="cannot be opened"):
            Ledger.open(address, space_of())


def test_libpq_finds_a_password_that_the_address_leaves_out(space_of, postgres, monkeypatch, tmp_path):
    address = postgres.address("libpq", password=None)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with pytest.raises(SweepFolderError, match="PGPASSWORD"):
        Ledger.create(address, space_of())
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert Ledger.create(address, space_of()).ask().is_default
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / "passes").write_text(f"*:*:*:*:{PASSWORD.replace(':', chr(92) + ':')}\n")
    (tmp_path / "passes").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passes"))
    assert len(Ledger.open(address, space_of()).trials()) == 1


def test_a_wrong_password_is_told_without_it(space_of, postgres):
    address = postgres.address("wrong").replace(ENCODED, "Wr%40ngSecret")
    with pytest.raises(SweepFolderError, match="password authentication failed") as caught:
        Ledger.create(address, space_of())
    assert "ngSecret" not in str(caught.value)


def test_a_server_that_is_restarted_costs_nothing_but_time(space_of, postgres):
    ledger = Ledger.create(postgres.address("restart"), space_of())
    record = ledger.ask()
    postgres.stop()
    starter = threading.Timer(1.0, postgres.start)
    starter.start()
    ledger.report(record.number, evaluation(100, 1.0))
    starter.join()
    postgres.stop()
    postgres.start()  # every connection of the pool is dead, and nobody has noticed yet
    ledger.finish(record.number, TrialState.COMPLETE)
    assert ledger.trial(record.number).value == 1.0


class Clock:
    """In which only pauses take time."""

    slept_s = 0.0

    def monotonic(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


def test_a_server_that_stays_away_ends_patience_once(space_of, postgres, monkeypatch):
    ledger = Ledger.create(postgres.address("away"), space_of())
    clock = Clock()
    monkeypatch.setattr(retrying_storage, "time", clock)
    record = ledger.ask()
    postgres.stop()
    try:
        with pytest.raises(LedgerAwayError, match="does not answer") as caught:
            ledger.report(record.number, evaluation(100, 1.0))
        assert clock.slept_s == pytest.approx(database._PATIENCE_S)
        assert PASSWORD not in str(caught.value) and ENCODED not in str(caught.value)
        with pytest.raises(LedgerAwayError):
            ledger.trials()
        assert clock.slept_s == pytest.approx(database._PATIENCE_S), "the second call has waited as well"
    finally:
        postgres.start()
    ledger.report(record.number, evaluation(100, 1.0))
    assert len(ledger.trials()[0].evaluations) == 1


def test_no_call_is_done_twice_when_the_answer_to_its_commit_is_lost(space_of, url, tmp_path, monkeypatch):
    """Every second commit of one ledger is made, and then answered by an error."""
    monkeypatch.setattr(retrying_storage, "_FIRST_PAUSE_S", 0.0)
    space, urls = space_of(), (url, f"sqlite:///{tmp_path}/other.db")
    disturbed, quiet = (Ledger.create(one, space) for one in urls)
    backend, commits = disturbed._storage, []
    commit = backend.engine.dialect.do_commit
    backend._patience_s = 60.0

    def lossy(connection: object) -> None:
        commit(connection)
        commits.append(None)
        if len(commits) % 2:
            raise sqlite3.OperationalError("lost")

    monkeypatch.setattr(backend.engine.dialect, "do_commit", lossy)
    for ledger in (disturbed, quiet):
        for value in (3.0, 2.0, 4.0):
            train(ledger, ledger.ask(), 5.0, value)
        stopped = ledger.ask()
        ledger.report(stopped.number, evaluation(100, 9.0))
        ledger.finish(stopped.number, TrialState.PRUNED, "hopeless")
        ledger.ask()
    assert len(commits) > 20
    one, two = (
        [(t.number, t.state, t.values, t.evaluations, t.reason) for t in ledger.trials()]
        for ledger in (disturbed, quiet)
    )
    assert one == two
    params = [
        [t.params for t in optuna.load_study(study_name=space.name, storage=one).trials] for one in urls
    ]
    assert params[0] == params[1]


def test_an_interrupt_in_the_middle_of_a_call_is_no_outage(space_of, tmp_path):
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'study.db'}", space_of())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    engine = ledger._storage.engine
    event.listen(engine, "do_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.note_sweep(state="running")
    event.remove(engine, "do_execute", interrupt)
    ledger.note_sweep(state="interrupted")
    assert ledger.sweep_attributes()["state"] == "interrupted"


def test_no_interrupt_is_let_into_a_call(space_of, tmp_path):
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'study.db'}", space_of())
    seen = []
    engine = ledger._storage.engine
    event.listen(engine, "do_execute", lambda *_: seen.append(is_committing()))
    ledger.note_sweep(state="running")
    ledger.trials()
    assert seen and all(seen)
    assert not is_committing()
