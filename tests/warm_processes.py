"""What the tests share of what is slow to start: originals of processes, and an empty MLflow store.

For users it would save seconds of a sweep of hours, and rests on what Ray and MLflow do not document.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import forked_processes
import pytest

__all__ = ["Forked", "empty_store", "hurry_databases", "share", "warm"]

_TESTS = Path(__file__).parent
_IMPORTED = {
    # As in a rank (sweeper/training/ranks/group.py), and with it what Ray and Ray Tune import. Not Ray
    # itself: it reads of which job a process is when it is imported.
    "ranks": """
load("fsspec", "jsonschema", "pandas", "pyarrow.fs", "pyarrow.parquet", "requests")
sys.modules["mlflow"] = None
load("sweeper.training.ranks.worker", "transformers.models.llama.modeling_llama", "peft")
load("transformers.generation.candidate_generator", "deepspeed.module_inject.auto_ep_layer")
del sys.modules["mlflow"]
""",
    # As in the process that prepares rows (sweeper/data/preparing.py).
    "rows": """
sys.modules["torch"] = None
load("sweeper.data.preparing", "transformers.models.auto.tokenization_auto", "transformers.models.llama")
load("transformers.convert_slow_tokenizer", "transformers.tokenization_utils_tokenizers")
""",
    "commands": """
load("sweeper.cli.app", "sweeper.commands.session", "sweeper.ray_tune.searcher", "sweeper.ray_tune.trainable")
import pytest, warm_processes
warm_processes.hurry_databases()
warm_processes.share(pytest.MonkeyPatch(), *sys.argv[3:])
""",
}
_PROGRAM = """
import importlib, sys
sys.path.insert(1, sys.argv[1])

def load(*modules):
    for module in modules:
        importlib.import_module(module)

{imported}
from forked_processes import serve
from sweeper.parent_death import die_with_parent
die_with_parent()
sys.path.remove(sys.argv[1])
serve(sys.argv[2])
"""


@cache
def warm(kind: str) -> str:
    """Where copies of a kind are asked for. Their original takes seconds to start, once for all tests of this
    process, and ends with it."""
    path = str(_folder() / kind)
    program = _PROGRAM.format(imported=_IMPORTED[kind])
    shared = [warm("rows"), empty_store()] if kind == "commands" else []
    original = subprocess.Popen(
        [sys.executable, "-c", program, str(_TESTS), path, *shared],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    )
    atexit.register(original.kill)
    assert original.stdout is not None
    told = iter(original.stdout.readline, b"")  # libraries print lines of their own before
    assert b"ready\n" in told, f"nothing to make {kind} of"
    return path


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="warm-", dir="/tmp")  # sockets want a short path
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def empty_store() -> str:
    """A database with MLflow's tables: its migrations take a second for each sweep."""
    import sqlalchemy
    from mlflow.store.db import utils

    file = str(_folder() / "mlflow.db")
    utils._initialize_tables(sqlalchemy.create_engine(f"sqlite:///{file}"))
    return file


@cache
def hurry_databases() -> None:
    """SQLite waits for no disk in this process: what a killed process has written stays all the same, only a
    machine without power would lose it. And Optuna reads its migrations once, not at each opening of a
    ledger."""
    from optuna.storages._rdb.storage import _VersionManager
    from sqlalchemy import Engine, event

    def hurry(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    read, migrations = _VersionManager._create_alembic_script, []

    def read_once(self: Any) -> Any:
        migrations[:] = migrations or [read(self)]
        return migrations[0]

    _VersionManager._create_alembic_script = read_once  # type: ignore[method-assign]


def share(patch: pytest.MonkeyPatch, rows: str, store: str) -> None:
    """Have the sweeps of this process prepare their rows in copies, start a Ray of their own with copies for
    workers where the environment says whose, and begin their MLflow store with a copy."""
    from mlflow.store.db import utils
    from ray._private import ray_constants

    from sweeper.commands import preparation
    from sweeper.data import PREPARING

    def copy(engine: Any) -> None:
        with closing(sqlite3.connect(store)) as made, closing(engine.raw_connection()) as new:
            made.backup(new.driver_connection)

    patch.setattr(preparation, "PREPARING", forked_processes.standing_for(rows, *PREPARING[1:]))
    patch.setattr(ray_constants, "SETUP_WORKER_FILENAME", forked_processes.__file__)
    patch.setattr(utils, "_initialize_tables", copy)


class Forked:
    """``python *arguments`` as a copy of a warm process: what ``subprocess.Popen`` is to a new one."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stderr: int | None = None,
    ) -> None:
        """Standard input and output are pipes, and so is standard error where ``stderr`` is STDOUT."""
        (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(ours_in, "w"), os.fdopen(ours_out)
        streams = (theirs_in, theirs_out, theirs_out if stderr == subprocess.STDOUT else 2)
        self._asked = forked_processes.ask(
            warm("commands"), *arguments, environment=env or os.environ, folder=cwd, streams=streams
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.pid = int(self._asked.recv(16))
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._asked.settimeout(timeout)
            self.returncode = int(self._asked.recv(16))
            self._asked.close()
        return self.returncode
