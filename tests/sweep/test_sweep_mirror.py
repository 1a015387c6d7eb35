"""MLflow has the same content, whether it was told as things happened or afterwards."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from board_files import event_curves, wandb_curves, wandb_runs
from mlflow import MlflowClient
from mlflow_content import assert_equal_to_ledger, mlflow_content
from typer.testing import CliRunner
from waiting import HANGS_AFTER_S

from sweeper.cli import app
from sweeper.commands import sync_sweep
from sweeper.data import gather_facts
from sweeper.errors import SweeperError, SweepFolderError
from sweeper.recommend import write_answer, write_results
from sweeper.search import Ledger, make_stopper
from sweeper.space import SweepFolder, load_space
from sweeper.sweep.lock import locked
from sweeper.sweep.mirror import Mirror
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.sweep.stored import store_space, this_driver
from sweeper.track import read_trials, run_name
from sweeper.training import STARTUP, Prepared, Progress, StepMetrics

PREPARED = Prepared(total_steps=4, total_tokens=400, ds_config={})


def step(number: int) -> StepMetrics:
    return StepMetrics(
        step=number,
        tokens=100 * number,
        loss=3 / number,
        lr=1e-3 / number,
        grad_norm=1.0 / number,
        time_s=time.time(),
    )


def progress(first: int, last: int, *, done: bool = False) -> Progress:
    """From after step ``first`` to the evaluation after step ``last``."""
    metrics = {"eval/loss": 5.0 - last, "perf/step_s": 0.1 * last}
    return Progress(
        step=last,
        tokens=100 * last,
        seconds=last / 10,
        metrics=metrics | ({STARTUP: 0.5} if first == 0 < last else {}),
        steps=tuple(step(number) for number in range(first + 1, last + 1)),
        done=done,
    )


@pytest.fixture
def begin(tmp_path, write_space, migrated):
    """A sweep whose trials are told to its recorder by the test; ended by ``finish``."""

    def make(**changes):
        space = load_space(write_space(tmp_path, **changes), gather=gather_facts)
        folder = SweepFolder(tmp_path / "sweeps" / "small")
        folder.root.mkdir(parents=True)
        shutil.copy(migrated, folder.root.parent / "mlflow.db")
        store_space(space, folder)
        ledger = Ledger.create(folder.study_url, space)
        ledger.note_sweep(id="id-1", started_s=time.time(), tags={"version.x": "1"})
        ledger.note_sweep(state="running", driver=this_driver())
        mirror = Mirror(space, folder, ledger)
        mirror.replay()
        recorder = Recorder(space, ledger, folder, make_stopper(space), [mirror.listener], data_dir=tmp_path)
        return space, folder, ledger, mirror, recorder

    return make


def train(recorder, *, evaluate_untrained: bool = False, end: bool = True) -> None:
    number, _ = recorder.next_job()
    if evaluate_untrained:
        recorder.record(Outcome(number=number, prepared=PREPARED, progress=progress(0, 0)))
    recorder.record(Outcome(number=number, prepared=PREPARED, progress=progress(0, 2)))
    if end:
        recorder.record(Outcome(number=number, progress=progress(2, 4, done=True)))


def finish(space, folder, ledger) -> None:
    write_results(space, ledger.trials(), folder)
    write_answer(space, ledger.trials(), folder, {}, {})
    ledger.note_sweep(state="finished")


def three_trials(recorder) -> None:
    train(recorder, evaluate_untrained=True)
    train(recorder)
    number, _ = recorder.next_job()
    recorder.record(Outcome(number=number, prepared=PREPARED, progress=progress(0, 2)))
    recorder.record(Outcome(number=number, failure="diverged at step 3", diverged=True))


def rows(database) -> list[str]:
    """All that a store holds."""
    with sqlite3.connect(database) as connection:
        return sorted(connection.iterdump())


def test_a_sync_into_an_empty_store_gives_what_was_told_as_it_happened_moments_included(
    begin, migrated, tmp_path
):
    space, folder, ledger, mirror, recorder = begin()
    three_trials(recorder)
    finish(space, folder, ledger)
    mirror.conclude("finished")
    assert mirror.close(60) == []
    database = folder.root.parent / "mlflow.db"
    told = mlflow_content(f"sqlite:///{database}", "small")
    assert_equal_to_ledger(f"sqlite:///{database}", folder.root)

    # MLflow's store stands beside the sweep: there is none beside a copy.
    copy = shutil.copytree(folder.root, tmp_path / "elsewhere" / "small")
    other = copy.parent / "mlflow.db"
    shutil.copy(migrated, other)
    said = sync_sweep(copy)
    assert mlflow_content(f"sqlite:///{other}", "small") == told
    points = sum(len(h) for name, run in told.items() if name != "small" for h in run["history"].values())
    assert said.endswith(f"has 3 trials, {points} points; {points} were missing")

    before = rows(other)
    assert sync_sweep(copy).endswith(f"has 3 trials, {points} points; 0 were missing")
    assert rows(other) == before


def test_the_boards_beside_mlflow_have_its_curves_and_a_sync_adds_nothing(begin, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    space, folder, ledger, mirror, recorder = begin(tracking={"also": ["tensorboard", "wandb"]})
    three_trials(recorder)
    finish(space, folder, ledger)
    mirror.conclude("finished")
    assert mirror.close(60) == []
    sync_sweep(folder.root)

    told = mlflow_content(f"sqlite:///{folder.root.parent / 'mlflow.db'}", "small")
    del told["small"]
    events, runs = event_curves(folder.root / "tensorboard"), wandb_runs(folder.root / "wandb")
    assert len(told) == len(events) == len(runs) == 3
    for number, (name, run) in enumerate(sorted(told.items())):
        curves = {metric: [(step, value) for step, value, _ in h] for metric, h in run["history"].items()}
        shown = events[re.sub(r"[^\w.+-]+", "-", name)]
        assert {metric: len(curve) for metric, curve in shown.items()} == {
            m: len(c) for m, c in curves.items()
        }
        assert all(dict(shown[metric]) == pytest.approx(dict(curve)) for metric, curve in curves.items())
        logged = runs[f"id-1-{number}"]
        del curves[STARTUP]  # a number of the whole trial
        assert (logged["name"], wandb_curves(logged)) == (name, curves)
        assert logged["config"]["lr"] == ledger.trial(number).values["lr"]
        assert logged["summary"]["state"] == run["tags"]["state"]


def test_what_a_killed_driver_had_not_written_is_written_by_sync(begin):
    """Its trial is at work, a half line stands in its file of steps, and MLflow has only its beginning."""
    space, folder, ledger, mirror, recorder = begin()
    train(recorder, evaluate_untrained=True)
    mirror.close(60)
    train(recorder, end=False)
    with folder.trial_steps(1).open("a") as file:
        file.write('{"step": 3, "tok')
    ledger.note_sweep(driver={"pid": 2**22 + 1, "host": os.uname().nodename})
    sync_sweep(folder.root)
    content = mlflow_content(f"sqlite:///{folder.root.parent / 'mlflow.db'}", "small")
    first, second = (run_name(space, one.number, one.values) for one in ledger.trials())
    assert {name: run["status"] for name, run in content.items()} == {
        "small": "KILLED",
        first: "FINISHED",
        second: "KILLED",
    }
    assert content[second]["tags"]["state"] == "INTERRUPTED"
    history = {name: [p[0] for p in points] for name, points in content[second]["history"].items()}
    assert history["train/loss"] == [100, 200] and history["eval/loss"] == [200]


def test_runs_of_an_earlier_version_get_the_names_that_are_given_now_and_a_persons_own_stay(begin):
    space, folder, ledger, mirror, recorder = begin()
    for _ in range(3):
        train(recorder)
    ledger.note_sweep(state="finished")
    mirror.close(60)
    uri = f"sqlite:///{folder.root.parent / 'mlflow.db'}"
    names = [run_name(space, one.number, one.values) for one in ledger.trials()]
    assert set(mlflow_content(uri, "small")) == {"small", *names}
    client = MlflowClient(tracking_uri=uri)
    for trial, name in zip(read_trials(uri, "small"), ["trial-0", "the good one", "trial-1"], strict=True):
        client.update_run(trial.run_id, name=name)
    sync_sweep(folder.root)
    assert set(mlflow_content(uri, "small")) == {"small", names[0], "the good one", "trial-1"}


def test_a_sweep_at_work_is_not_synced(begin):
    _, folder, _, mirror, _ = begin()
    mirror.close(60)
    with locked(folder), pytest.raises(SweepFolderError, match="another driver is at work"):
        sync_sweep(folder.root)


def test_the_command_says_what_was_missing(begin):
    space, folder, ledger, mirror, recorder = begin()
    mirror.close(60)
    train(recorder)
    finish(space, folder, ledger)
    shown = CliRunner().invoke(app, ["sync", str(folder.root)])
    assert (shown.exit_code, shown.stdout.count("\n")) == (0, 1)
    assert "mlflow.db has 1 trials, " in shown.stdout


def test_a_sync_that_mlflow_does_not_take_gives_up_and_says_why(begin):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        _, folder, ledger, mirror, _ = begin(tracking={"mlflow_uri": uri})
        mirror.close(0)
        ledger.note_sweep(state="finished")
        with pytest.raises(SweeperError, match=r"cannot be reached .*Connection refused"):
            sync_sweep(folder.root)  # without a limit of time: it gives up by itself


class Slow(BaseHTTPRequestHandler):
    """A store that answers nobody until it is let go, and then has no time."""

    asked, let_go = threading.Event(), threading.Event()

    def answer(self) -> None:
        Slow.asked.set()
        Slow.let_go.wait()
        self.send_error(503)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None: ...


def test_the_thread_that_commits_never_waits_for_a_slow_mlflow(begin):
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_address[1]}"
        space, folder, ledger, mirror, recorder = begin(search__trials=15, tracking={"mlflow_uri": uri})
        assert Slow.asked.wait(HANGS_AFTER_S)  # mlflow is being imported
        for _ in range(15):
            train(recorder)  # while the call is under way
        finish(space, folder, ledger)
        mirror.conclude("finished")
        Slow.let_go.set()
        warnings = mirror.close(math.inf)
        server.shutdown()
    assert len(warnings) == 1
    assert uri in warnings[0] and warnings[0].endswith(f"with: sweeper sync {folder.root}")
