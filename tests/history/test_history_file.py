"""The file that all sweeps of a user write to."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import signal
import sqlite3
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from history_support import LLAMA, past_sweep, past_trial

from sweeper.errors import SweepFolderError
from sweeper.history import HistoryFile, history_path


@pytest.fixture
def file(tmp_path) -> HistoryFile:
    return HistoryFile(tmp_path / "data" / "history.sqlite3")


def test_what_is_written_is_read_back(file):
    sweep = past_sweep("one", [past_trial(0, 1.5), past_trial(1, None, lr=0.1)])
    file.write(sweep.facts, sweep.trials)
    assert file.sweeps() == [sweep]


def test_without_a_file_there_is_no_sweep_and_reading_makes_none(file):
    assert file.sweeps() == [] and not file.path.exists()


def test_a_trial_that_is_written_again_is_there_once_and_as_it_was_told_last(file):
    facts = past_sweep("one", []).facts
    file.write(facts, [past_trial(0, 1.5), past_trial(1, 1.6)])
    file.write(facts, [past_trial(1, 1.4)])
    (found,) = file.sweeps()
    assert found.trials == (past_trial(0, 1.5), past_trial(1, 1.4))


def test_the_newest_sweep_comes_first_and_a_forgotten_one_goes_with_its_trials(file):
    for name, began_s in (("old", 1.0), ("new", 2.0)):
        sweep = past_sweep(name, [past_trial(0, 1.5)], began_s=began_s)
        file.write(sweep.facts, sweep.trials)
    assert [one.facts.name for one in file.sweeps()] == ["new", "old"]
    file.forget(["new-id"])
    assert [one.facts.name for one in file.sweeps()] == ["old"]
    with sqlite3.connect(file.path) as connection:
        assert connection.execute("SELECT DISTINCT sweep FROM trials").fetchall() == [("old-id",)]


def _write_many(path: Path, name: str) -> None:
    facts = past_sweep(name, []).facts
    for number in range(40):
        HistoryFile(path).write(facts, [past_trial(number, 1.0 + number)])


def test_sweeps_that_write_at_once_lose_nothing(file):
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write_many, args=(file.path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert sorted((one.facts.name, len(one.trials)) for one in file.sweeps()) == [
        ("a", 40),
        ("b", 40),
        ("c", 40),
    ]


def _write_for_ever(path: Path, first: int, told: Connection) -> None:
    facts = past_sweep("killed", []).facts
    for number in itertools.count(first, 5):
        told.send(number)
        HistoryFile(path).write(facts, [past_trial(number + k, 1.0) for k in range(5)])


def test_a_writer_that_is_killed_leaves_whole_writes_and_a_file_that_others_use(file):
    fork = multiprocessing.get_context("fork")
    for kill in range(8):
        told, tell = fork.Pipe(duplex=False)
        writer = fork.Process(target=_write_for_ever, args=(file.path, 10_000 * kill, tell))
        writer.start()
        for _ in range(2 + kill % 3):
            told.recv()
        os.kill(writer.pid, signal.SIGKILL)  # in the middle of a write
        writer.join()
        assert _count(file) % 5 == 0
    sweep = past_sweep("after", [past_trial(0, 1.0)])
    file.write(sweep.facts, sweep.trials)
    assert {one.facts.name for one in file.sweeps()} == {"killed", "after"}


def _count(file: HistoryFile) -> int:
    return sum(len(one.trials) for one in file.sweeps())


def test_a_file_of_a_newer_version_is_refused_and_stays_as_it_is(file):
    sweep = past_sweep("one", [past_trial(0, 1.5)])
    file.write(sweep.facts, sweep.trials)
    with sqlite3.connect(file.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = file.path.read_bytes()
    with pytest.raises(SweepFolderError, match="version 99"):
        file.write(sweep.facts, sweep.trials)
    assert file.path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0 and then nothing"])
def test_a_file_that_is_no_history_is_named_with_what_to_do(file, content):
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    with pytest.raises(SweepFolderError, match=r"search.history: false") as caught:
        file.sweeps()
    assert str(file.path) in str(caught.value)


def test_features_of_a_later_version_are_passed_over(file):
    sweep = past_sweep("one", [past_trial(0, 1.5)])
    file.write(sweep.facts, sweep.trials)
    with sqlite3.connect(file.path) as connection:
        connection.execute("UPDATE sweeps SET features = json_set(features, '$.colour', 'green')")
    (found,) = file.sweeps()
    assert found.facts.features == dataclasses.replace(LLAMA, data=())


def test_where_the_history_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SWEEPER_HISTORY", str(tmp_path / "mine.db"))
    assert history_path(None) == tmp_path / "mine.db"
    assert history_path("other.db") == Path("other.db")
    assert history_path(False) is None
    for off in ("off", "", "OFF", "false"):
        monkeypatch.setenv("SWEEPER_HISTORY", off)
        assert history_path(None) is None
    monkeypatch.delenv("SWEEPER_HISTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert history_path(None) == tmp_path / "sweeper" / "history.sqlite3"
