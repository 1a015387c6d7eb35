"""Python processes that are copies of one that has imported what they would import.

A new one takes seconds of a core for that, and the tests start hundreds. A copy is a process of its own all
the same, with its own number, session, streams, environment, working directory and exit status.

Where somebody else starts the process, as Ray does its workers, this file as a program stands for the copy
and ends when it does.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["WORKERS", "ask", "serve", "standing_for"]

WORKERS = "FORK_WORKERS_FROM"
"""The variable of the environment that holds the path of the socket where a worker of Ray is asked for."""
_FOR = "--for"
_LONGEST = 2**17
"""Bytes of what is asked for, an environment among it."""


def serve(path: str) -> None:
    """Make a copy for each that asks, for ever; says so on standard output once it can be asked. Returns in
    each copy, which has done then what was asked for, and comes to its end as any Python process."""
    import gc

    gc.freeze()  # what is there stays, and no copy need look for garbage in it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a keeper ended
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(64)
        print("ready", flush=True)
        while True:
            asking, _ = server.accept()
            request, streams, *_ = socket.recv_fds(asking, _LONGEST, 3)
            if os.fork() == 0:
                break
            asking.close()
            _close(streams)
    _keep(asking, streams)
    _become(*pickle.loads(request), streams)


def _keep(asking: socket.socket, streams: Iterable[int]) -> None:
    """Returns in the copy. Its parent tells of its number and its end, and has no other use."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (copy := os.fork()) == 0:
        asking.close()
        return
    _close(streams)
    with suppress(OSError):  # nobody waits for it any more
        asking.send(str(copy).encode())
        _, status = os.waitpid(copy, 0)
        asking.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> None:
    """Do what ``python *arguments`` does."""
    import random
    import runpy
    import types

    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _close(streams)
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    random.seed()
    if library := sys.modules.get("ray._raylet"):  # has read the original's environment
        library.Config.initialize("")
        library.AuthenticationTokenLoader.instance().reset_cache()
    first, *others = arguments
    here = sys.path.index("")  # the original is a ``python -c``; Ray puts a folder of its own before
    if first == "-m":
        sys.path[here], sys.argv = folder, others
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = [first, *others[1:]]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(others[0], main.__dict__)
    else:
        sys.path[here], sys.argv = str(Path(first).parent), list(arguments)
        runpy.run_path(first, run_name="__main__")


def _close(streams: Iterable[int]) -> None:
    for stream in streams:
        os.close(stream)


def ask(
    path: str,
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    streams: Sequence[int] = (0, 1, 2),
) -> socket.socket:
    """Ask at ``path`` for a copy; what is received from then on is its number, and how it ended."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking.connect(path)
    request = pickle.dumps((arguments, dict(environment), str(folder or Path.cwd())))
    socket.send_fds(asking, [request], streams)
    return asking


def standing_for(path: str, *arguments: str) -> tuple[str, ...]:
    """The command of a process that stands for a copy."""
    return (sys.executable, "-S", __file__, _FOR, path, *arguments)


def _worker() -> socket.socket:
    """Ask for what Ray starts with this file in place of its own set-up of a worker."""
    import argparse

    if WORKERS not in os.environ:
        _as_ray_does()
    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    known, arguments = parser.parse_known_args()
    of_job = json.loads(known.serialized_runtime_env_context).get("env_vars", {})
    return ask(os.environ[WORKERS], *arguments, environment={**os.environ, **of_job})


def _as_ray_does() -> None:
    """Start a new worker."""
    from importlib.util import find_spec

    ray = find_spec("ray")
    assert ray is not None and ray.origin is not None
    script = Path(ray.origin).parent / "_private" / "workers" / "setup_worker.py"
    os.execv(sys.executable, [sys.executable, str(script), *sys.argv[1:]])


def _stand() -> int:
    """Live as long as a copy; its exit status."""
    asking = ask(*sys.argv[2:]) if sys.argv[1] == _FOR else _worker()
    asking.recv(_LONGEST)
    return int(asking.recv(_LONGEST) or 1)


if __name__ == "__main__":
    sys.exit(_stand())
