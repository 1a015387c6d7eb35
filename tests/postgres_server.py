"""A PostgreSQL server for tests: its own data folder, a free port of 127.0.0.1, a user with a password."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from waiting import HANGS_AFTER_S, eventually

USER = "sweep_owner"
PASSWORD = "Zw9/k@Qm:7#v%x&Lp+3T"
"""Has every character that an address cannot hold as it is."""
ENCODED = quote(PASSWORD, safe="")


def find_programs() -> Path | None:
    """The folder of initdb and postgres; None where they are not installed."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in found if (one / "initdb").exists() and (one / "postgres").exists()), None)


class Postgres:
    """A running server; use as a context manager."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._home = Path(tempfile.mkdtemp(prefix="sweeper-postgres-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: subprocess.Popen[bytes] | None = None

    def address(self, database: str, *, password: str | None = ENCODED) -> str:
        """The address of a database, made when it is not there."""
        self._make(database)
        user = USER if password is None else f"{USER}:{password}"
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        data = str(self._home / "data")
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F"]
        self._server = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", data, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_unprivileged(),
        )
        assert eventually(lambda: self._answers() or self._server.poll() is not None)
        assert self._server.poll() is None

    def stop(self) -> None:
        """At once: whoever is connected is thrown out."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(timeout=HANGS_AFTER_S)
            self._server = None

    def __enter__(self) -> Postgres:
        secret = self._home / "password"
        secret.write_text(PASSWORD)
        if "user" in _unprivileged():
            shutil.chown(self._home, user=_user())
            shutil.chown(secret, user=_user())
        command = [str(self._programs / "initdb"), "-D", str(self._home / "data"), "-U", USER]
        command += ["-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, **_unprivileged())
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _connect(self):  # type: ignore[no-untyped-def]
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
            connect_timeout=2,
        )

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _make(self, database: str) -> None:
        with self._connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
            if known is None:
                connection.execute(f'CREATE DATABASE "{database}"')


def _user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _unprivileged() -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    entry = pwd.getpwnam(_user())
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}
