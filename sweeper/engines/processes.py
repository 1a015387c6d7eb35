"""The processes of one command: started, watched, and ended as a whole."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sweeper.engines import guard

__all__ = ["CommandProcess", "free_port", "reap_commands"]

_GIB = 2**30
_ENDS_WITHIN_S = 10.0
_GUARD = (sys.executable, "-E", "-S", str(Path(guard.__file__).resolve()))
_RAYS_OWN = "RAY_"


class CommandProcess:
    """A command under its guard: whatever it starts ends with it, and with this process."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        tag: Path,
        leash: Path,
        variables: Mapping[str, str],
        log_file: Path,
        folder: Path,
        memory_limit_gib: float | None,
    ) -> None:
        """``tag`` names the command among all of this machine; it ends when the file ``leash`` goes. Its
        output is appended to ``log_file``."""
        self._tag = str(tag)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_RAYS_OWN)}
        with log_file.open("ab") as log:
            self.logged_before = log.tell()
            self._process = subprocess.Popen(
                [*_GUARD, self._tag, str(leash), *words],
                env={**kept, **variables},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if memory_limit_gib is None else lambda: _limit(memory_limit_gib),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """None while it runs; the exit status as a shell has it, 128 + the signal that ended it."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def end(self) -> None:
        """End it and all that it has started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_ENDS_WITHIN_S)
        guard.kill_tagged(self._tag)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def reap_commands(folder: Path) -> int:
    """Kill what commands of trials in a sweep's folder have left behind on this host; how many processes."""
    return guard.kill_tagged(f"{folder.resolve()}{os.sep}", prefix=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _limit(gib: float) -> None:
    """Each process of the command by itself, as it is with the ranks of sweeper's own trainer."""
    size = int(gib * _GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
