"""A real MLflow server that goes away under a real sweep, and comes back, or does not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver_process import Driver
from mlflow_content import assert_equal_to_ledger, mlflow_content
from waiting import eventually

from sweeper.commands import sync_sweep
from sweeper.engines.processes import free_port

pytestmark = pytest.mark.usefixtures("running_ray")

COMMAND = """
import sys
from pathlib import Path
from sweeper.cli import main
from sweeper.ray_tune.searcher import LedgerSearcher
from sweeper.track import tracker
tracker._LONGEST_PAUSE_S = 0.5
suggest, gates = LedgerSearcher.suggest, Path(sys.argv[-1]).parent

def suggest_when_let(self, trial_id):
    ended = sum(one.state.is_finished for one in self._recorder._ledger.trials())
    return suggest(self, trial_id) if (gates / f"begin-{ended}").exists() else None

LedgerSearcher.suggest = suggest_when_let
main()
"""
"""The command with short pauses between attempts, and trials that begin when the test lets them."""


class Server:
    """`mlflow server` over a SQLite file, behind an address that answers only while it is open.

    Closing it cuts every connection in the middle, as the end of a server does; the server itself takes
    seconds to start, and does so once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._inner, self.port = folder, free_port(), free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self._inner), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
            )

    def wait(self) -> None:
        assert eventually(lambda: self._answers() or self._process.poll() is not None)
        assert self._process.poll() is None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._inner}/health", timeout=5) as answer:
                return bool(answer.read() == b"OK")
        except OSError:
            return False

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        assert self._listener is not None
        for one in (self._listener, *self._connections):
            with contextlib.suppress(OSError):  # its other side has gone
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._listener, self._connections = None, []

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._inner))
                self._connections += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=forward, args=(source, target), daemon=True).start()

    def end(self) -> None:
        if self._listener is not None:
            self.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # cut
        while content := source.recv(2**16):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)


class Sweep(Driver):
    """That command."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, program=("-c", COMMAND))

    @property
    def warnings_of_mlflow(self) -> list[str]:
        return [line for line in self.said.split("\n") if "warning: " in line and "MLflow" in line]


@pytest.fixture
def server(tmp_path: Path, migrated: Path) -> Iterator[Server]:
    (tmp_path / "mlflow.db").write_bytes(migrated.read_bytes())
    server = Server(tmp_path)
    yield server
    server.end()


def test_a_server_that_comes_and_goes_and_a_driver_that_is_killed_lose_nothing(server, tmp_path, write_space):
    space = write_space(tmp_path, search__trials=4, tracking={"mlflow_uri": server.uri})
    out = tmp_path / "sweep"

    def begin(*trials: int) -> None:
        for trial in trials:
            (tmp_path / f"begin-{trial}").touch()

    def log() -> str:
        return (out / "logs" / "mlflow.log").read_text()

    def is_missed(times: int) -> bool:
        return log().count("MLflow cannot be reached") >= times

    def is_back(times: int) -> bool:
        return log().count("MLflow is back after") >= times

    begin(0)
    sweep = Sweep("run", space, "--out", out)
    server.wait()
    sweep.until("trial 0 done")  # the sweep has not waited for it
    server.open()
    assert eventually(lambda: is_back(1) and is_there(server.uri, 0))
    server.close()
    begin(1)
    sweep.until("trial 1 done")
    assert eventually(lambda: is_missed(2))
    server.open()
    assert eventually(lambda: is_back(2) and is_there(server.uri, 1))
    assert not sweep.warnings_of_mlflow
    server.close()
    begin(2)
    sweep.until("trial 2 starts")
    sweep.process.kill()  # with all that its writer kept for the server
    sweep.process.wait()

    server.open()
    resumed = Sweep("resume", out)
    resumed.until("trial 2 done")
    assert eventually(lambda: is_there(server.uri, 2))
    server.close()
    begin(3, 4)
    assert resumed.end() == 0, resumed.said
    (warning,) = resumed.warnings_of_mlflow
    assert "cannot be reached" in warning and warning.endswith(f"sweeper sync {out}")

    server.open()
    assert "4 trials" in sync_sweep(out)
    assert_equal_to_ledger(server.uri, out)
    complete = mlflow_content(server.uri, "small")
    assert sync_sweep(out).endswith("; 0 were missing")
    assert mlflow_content(server.uri, "small") == complete


def is_there(uri: str, trial: int) -> bool:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("small")
    return found is not None and bool(client.search_runs([found.experiment_id], f"tags.trial = '{trial}'"))
