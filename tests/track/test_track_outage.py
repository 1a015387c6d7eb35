"""No record is lost or written twice when the store goes away, whichever call that meets."""

from __future__ import annotations

import math
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import HANGS_AFTER_S

from sweeper.track import Tracker, read_trials, training_points
from sweeper.track.outage import Verdict, judge
from sweeper.track.run_writer import POINTS_TAG, Recorder
from sweeper.track.store import open_store

Fault = Callable[[int, str, Callable[[], Any]], Any]
"""Given the number and the name of a call and what makes it."""


class FaultyClient:
    """MLflow's client with a bad line to its store."""

    def __init__(self, client: Any, fault: Fault) -> None:
        self._client, self._fault, self.calls = client, fault, 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            return self._fault(self.calls, name, lambda: getattr(self._client, name)(*args, **keywords))

        return call


@pytest.fixture
def make(
    uri: str, tmp_path: Path, space_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Fault, str], Tracker]:
    """A tracker with a faulty client, whose pauses are short; its sweep is announced."""
    monkeypatch.setattr("sweeper.track.tracker._FIRST_PAUSE_S", 0.001)

    def opened(fault: Fault) -> Callable[..., Recorder]:
        def open_faulty(*args: Any) -> Recorder:
            recorder = open_store(*args)
            recorder._client = FaultyClient(recorder._client, fault)
            return recorder

        return open_faulty

    def made(fault: Fault, sweep_id: str) -> Tracker:
        monkeypatch.setattr("sweeper.track.tracker.open_store", opened(fault))
        tracker = Tracker(uri=uri, experiment="demo", log_path=tmp_path / "mlflow.log")
        tags = {"sweeper.sweep_id": sweep_id}
        tracker.sweep_started(name="demo", params={"a": 1}, tags=tags, space_file=space_file, at_s=1.0)
        return tracker

    return made


def train(tracker: Tracker, trials: int = 2) -> None:
    for number in range(trials):
        tracker.trial_started(
            number, name=f"{number}", searched={"lr": 1e-5}, fixed={}, config_yaml="a: 1\n", tags={}, at_s=2.0
        )
        for step in (1, 2):
            metrics = {"train/loss": 2.0 / step, "eval/loss": 3.0 / step}
            tracker.metrics(number, training_points(metrics, step=step, tokens=100 * step, time_s=step))
        final = {"perf/startup_s": 0.5}
        tracker.trial_finished(number, state="COMPLETE", reason=None, metrics=final, at_s=3.0)


def end(tracker: Tracker, timeout_s: float = HANGS_AFTER_S) -> list[str]:
    tracker.sweep_finished(state="FINISHED", artifacts=[], tags={}, metrics={"best": 1.0}, at_s=4.0)
    return tracker.close(timeout_s)


def parents(uri: str, sweep_id: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    runs = client.search_runs([experiment], f"tags.`sweeper.sweep_id` = '{sweep_id}'")
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def assert_complete(uri: str, sweep_id: str, trials: int = 2) -> None:
    (parent,) = parents(uri, sweep_id)
    assert (parent.info.status, parent.data.metrics, parent.info.end_time) == ("FINISHED", {"best": 1}, 4000)
    found = read_trials(uri, "demo", sweep_id=sweep_id)
    assert [(one.number, one.status) for one in found] == [(n, "FINISHED") for n in range(trials)]
    for trial in found:
        assert trial.history == {
            "train/loss": [(100, 2.0), (200, 1.0)],
            "eval/loss": [(100, 3.0), (200, 1.5)],
            "train/step": [(100, 1.0), (200, 2.0)],
            "perf/startup_s": [(0, 0.5)],
        }
        assert trial.tags[POINTS_TAG] == "7"


def lost() -> requests.exceptions.ConnectionError:
    return requests.exceptions.ConnectionError("connection reset by peer")


@pytest.mark.parametrize("is_applied", [False, True], ids=["not applied", "applied, but the answer was lost"])
def test_any_call_may_be_lost(make: Any, uri: str, is_applied: bool) -> None:
    """Each call of a sweep in turn, until a sweep has fewer calls than that."""
    lost_call, was_met = 0, True
    while was_met:
        lost_call, was_met = lost_call + 1, False

        def fault(call: int, name: str, make_it: Callable[[], Any], lost_call: int = lost_call) -> Any:
            nonlocal was_met
            if call != lost_call:
                return make_it()
            was_met = True
            if is_applied:
                make_it()
            raise lost()

        tracker = make(fault, f"id-{lost_call}")
        train(tracker, trials=1)
        assert end(tracker) == []
        assert_complete(uri, f"id-{lost_call}", trials=1)
    assert lost_call > 15


def test_a_run_that_is_made_after_its_sender_lost_patience_does_not_stay(make: Any, uri: str) -> None:
    """A slow store makes the run while the writer has found none and makes it again."""
    asked: list[Callable[[], Any]] = []

    def fault(call: int, name: str, make_it: Callable[[], Any]) -> Any:
        if name != "create_run":
            return make_it()
        asked.append(make_it)
        if len(asked) % 2:
            raise requests.exceptions.ReadTimeout("no answer after 10 s")
        made = make_it()
        asked[-2]()
        return made

    tracker = make(fault, "id-1")
    train(tracker)
    assert end(tracker) == []
    assert len(asked) == 6  # the sweep and two trials
    assert_complete(uri, "id-1")


def test_a_store_that_is_away_for_long_gets_everything_in_the_end(make: Any, uri: str) -> None:
    is_away = threading.Event()

    def fault(call: int, name: str, make_it: Callable[[], Any]) -> Any:
        if is_away.is_set():
            raise lost()
        return make_it()

    is_away.set()
    tracker = make(fault, "id-1")
    train(tracker)
    time.sleep(0.5)
    is_away.clear()
    assert end(tracker) == []
    assert_complete(uri, "id-1")


def test_a_store_that_does_not_come_back_is_given_up_and_a_later_one_gets_everything(
    make: Any, uri: str
) -> None:
    def fault(call: int, name: str, make_it: Callable[[], Any]) -> Any:
        if call > 9:
            raise lost()
        return make_it()

    tracker = make(fault, "id-1")
    train(tracker)
    (warning,) = end(tracker, math.inf)
    assert "cannot be reached (connection reset by peer)" in warning
    assert warning.endswith("Write them later with: sweeper sync DIR")

    again = make(lambda call, name, make_it: make_it(), "id-1")
    train(again)
    assert end(again) == []
    assert_complete(uri, "id-1")
    assert again.content() is not None and again.content().points == 14


def test_a_part_of_the_store_that_is_broken_holds_up_nothing_else(make: Any, uri: str) -> None:
    """Artifacts cannot be stored, say."""
    from mlflow.exceptions import MlflowException

    def fault(call: int, name: str, make_it: Callable[[], Any]) -> Any:
        if name == "log_text":
            raise MlflowException("the disk of artifacts is full")  # MLflow's default is an internal error
        return make_it()

    tracker = make(fault, "id-1")
    train(tracker)
    (warning,) = end(tracker)
    assert "the disk of artifacts is full" in warning
    assert_complete(uri, "id-1")


def test_points_that_are_refused_cost_no_others_and_are_written_by_a_later_sync(make: Any, uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    refused: list[str] = []

    def fault(call: int, name: str, make_it: Callable[[], Any]) -> Any:
        if name == "log_batch" and call > 8 and not refused:
            refused.append(name)
            raise MlflowException("not today", INVALID_PARAMETER_VALUE)
        return make_it()

    tracker = make(fault, "id-1")
    train(tracker)
    (warning,) = end(tracker)
    assert "not today" in warning
    trials = read_trials(uri, "demo", sweep_id="id-1")
    assert [one.status for one in trials] == ["FINISHED", "FINISHED"]
    assert sum(len(points) for one in trials for points in one.history.values()) < 14

    again = make(lambda call, name, make_it: make_it(), "id-1")
    train(again)
    assert end(again) == []
    assert_complete(uri, "id-1")


def test_points_are_read_only_where_they_are_missing(make: Any) -> None:
    def fine(call: int, name: str, make_it: Callable[[], Any]) -> Any:
        return make_it()

    first = make(fine, "id-1")
    train(first)
    assert end(first) == []
    again = make(fine, "id-1")
    again.metrics(0, lambda: pytest.fail("MLflow has this trial"))
    assert end(again) == []


@contextmanager
def server_that_says(status: int) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_error(status)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def error_of(uri: str) -> Exception:
    from mlflow import MlflowClient

    with pytest.raises(Exception) as caught:
        MlflowClient(tracking_uri=uri).get_run("0" * 32)
    return caught.value


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.REFUSED),
        (401, Verdict.REFUSED),
        (404, Verdict.REFUSED),
        (408, Verdict.AWAY),
        (429, Verdict.AWAY),
        (500, Verdict.TROUBLED),
        (502, Verdict.AWAY),
        (503, Verdict.AWAY),
        (504, Verdict.AWAY),
    ],
)
def test_the_status_of_a_server_says_whether_to_try_again(
    status: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server_that_says(status) as uri:
        assert judge(error_of(uri)) is verdict


def test_a_server_that_is_not_there_is_away_and_no_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server_that_says(200) as uri:
        pass
    assert judge(error_of(uri)) is Verdict.AWAY
    assert judge(error_of("http://:99999999")) is Verdict.REFUSED
    assert judge(FileNotFoundError("best-config.yaml")) is Verdict.REFUSED


def test_a_locked_database_is_away(tmp_path: Path) -> None:
    import sqlalchemy

    file = tmp_path / "a.db"
    with sqlite3.connect(file, isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        engine = sqlalchemy.create_engine(f"sqlite:///{file}", connect_args={"timeout": 0})
        with pytest.raises(sqlalchemy.exc.OperationalError, match="locked") as caught, engine.begin() as work:
            work.execute(sqlalchemy.text("CREATE TABLE a (b INTEGER)"))
    assert judge(caught.value) is Verdict.AWAY


def test_a_database_server_that_is_not_there_is_away_at_once(tmp_path: Path, space_file: Path) -> None:
    """MLflow itself would try for a minute and a half, and answer nobody meanwhile."""
    pytest.importorskip("psycopg")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"postgresql+psycopg://me:verysecret@127.0.0.1:{closed.getsockname()[1]}/x"
        tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
        tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
        (warning,) = tracker.close(math.inf)
    assert "cannot be reached" in warning and "verysecret" not in warning
