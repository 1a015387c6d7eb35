"""A real MLflow server that goes away under a real sweep, and comes back, or does not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver_process import Driver
from mlflow_content import assert_equal_to_ledger, mlflow_content
from waiting import eventually

from sweeper.commands import sync_sweep

pytestmark = pytest.mark.usefixtures("running_ray")

COMMAND = """
from sweeper.cli import main
from sweeper.track import tracker
tracker._LONGEST_PAUSE_S = 0.5
main()
"""


class Server:
    """`mlflow server` over a SQLite file; its address stays the same."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.uri, self._folder = f"http://127.0.0.1:{self.port}", folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        assert eventually(lambda: self._answers() or self._process.poll() is not None)
        assert self._process.poll() is None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.read() == b"OK")
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Sweep(Driver):
    """The command with short pauses between attempts."""

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
    server.kill()


def test_a_server_that_comes_and_goes_and_a_driver_that_is_killed_lose_nothing(server, tmp_path, write_space):
    """While the server starts, the driver is stopped, so that trials are left, however long that takes."""
    space = write_space(tmp_path, search__trials=5, tracking={"mlflow_uri": server.uri})
    out = tmp_path / "sweep"
    sweep = Sweep("run", space, "--out", out)

    def start_server() -> None:
        os.kill(sweep.process.pid, signal.SIGSTOP)
        server.start()
        os.kill(sweep.process.pid, signal.SIGCONT)

    def is_back(times: int) -> bool:
        return (out / "logs" / "mlflow.log").read_text().count("MLflow is back after") >= times

    sweep.until("trial 1 starts")  # the sweep has not waited for it
    start_server()
    assert eventually(lambda: is_back(1) and is_there(server.uri, 0))
    server.kill()
    sweep.until("trial 3 starts")
    start_server()
    assert eventually(lambda: is_back(2) and is_there(server.uri, 2))
    assert not sweep.warnings_of_mlflow
    server.kill()
    sweep.process.kill()  # with all that its writer kept for the server
    sweep.process.wait()

    server.start()
    resumed = Sweep("resume", out)
    resumed.until("trial 4 starts")
    server.kill()
    assert resumed.end() == 0, resumed.said
    (warning,) = resumed.warnings_of_mlflow
    assert "cannot be reached" in warning and warning.endswith(f"sweeper sync {out}")

    server.start()
    assert "5 trials" in sync_sweep(out)
    assert_equal_to_ledger(server.uri, out)
    complete = mlflow_content(server.uri, "small")
    assert sync_sweep(out).endswith("; 0 were missing")
    assert mlflow_content(server.uri, "small") == complete


def is_there(uri: str, trial: int) -> bool:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("small")
    return found is not None and bool(client.search_runs([found.experiment_id], f"tags.trial = '{trial}'"))
