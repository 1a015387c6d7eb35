"""MLflow's own pages on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import quote, urlencode

from sweeper.errors import UserError
from sweeper.track.mlflow_logging import set_environment
from sweeper.track.run_writer import TRIAL_TAG
from sweeper.track.uri import artifact_root, masked, sqlite_file

__all__ = ["comparison_url", "serve_ui"]

_GRACE_S = 5.0
"""The server has this long to end before it is killed."""


def comparison_url(uri: str, port: int, experiment: str, *, metric: str, mode: str) -> str:
    """The page of a running UI that compares an experiment's trials, the best one first.

    MLflow folds child runs away as long as runs are sorted by time; sorted by a metric they are all
    there, with their curves. Looks the experiment up in the store; the UI's front page where it is absent.
    """
    set_environment()
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
    front = f"http://127.0.0.1:{port}/"
    if found is None:
        return front
    query = {
        "workflowType": "machine_learning",
        "compareRunsMode": "CHART",
        "searchFilter": f"tags.{TRIAL_TAG} LIKE '%'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": str(mode == "min").lower(),
    }
    return f"{front}#/experiments/{found.experiment_id}/runs?{urlencode(query, quote_via=quote)}"


def serve_ui(uri: str, port: int) -> int:
    """Serves MLflow's UI on 127.0.0.1 in the foreground until it is interrupted; returns the exit status.

    The server itself says where it listens, once it does. Call this from the main thread.

    Raises:
        UserError: the store is a server of its own, the SQLite file does not exist, or the port is taken.
    """
    _check_store(uri)
    _check_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level info --no-access-log"]
    root = artifact_root(uri)
    if root is not None:
        # For experiments that users make in the UI: not ./mlartifacts of wherever this was started.
        command += ["--artifacts-destination", str(root)]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A session of its own, so that the server's own children can be ended with it.
    server = subprocess.Popen(command, env=_environment(uri), start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_GRACE_S)
            return


def _check_store(uri: str) -> None:
    if uri.startswith(("http://", "https://", "databricks")):
        raise UserError.of(
            where="MLflow store",
            value=masked(uri),
            rule="is a server with pages of its own",
            remedy="open that address in a browser",
        )
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise UserError.of(
            where="MLflow store",
            value=file,
            rule="does not exist yet",
            remedy="run a sweep first, or give the folder of one",
        )


def _check_port(port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise UserError.of(
            where="--port",
            value=port,
            rule=f"cannot be listened on ({error})",
            remedy="choose another port between 1024 and 65535",
        ) from error


def _environment(uri: str) -> dict[str, str]:
    """The URI goes by environment, not as an argument: every user of a machine can list arguments."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # job runners serve other parts of MLflow
        "PYTHONWARNINGS": "ignore",
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
