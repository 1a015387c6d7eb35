"""The worker processes of a Ray, forked from one that has imported what they would import.

A new one takes seconds of a core for torch, DeepSpeed and transformers, and the tests start a hundred.
A Ray whose ``setup_worker_path`` is this file starts its workers with it: it asks the process that ``serve``
made for a copy of itself, and stays for as long as the copy lives, as Ray waits for its end.
"""

from __future__ import annotations

import array
import json
import os
import pickle
import signal
import socket
import sys
from pathlib import Path

__all__ = ["SOCKET", "serve"]

SOCKET = "FORK_WORKERS_FROM"
"""The variable of the environment that holds the path of the socket to ask at."""
_BY_RAY_TUNE = ("fsspec", "jsonschema", "pandas", "pyarrow.fs", "pyarrow.parquet", "requests")
"""What Ray and Ray Tune import. Not Ray itself: it reads of which job a process is when it is imported."""
_LENGTH_BYTES = 8
_STREAMS = (0, 1, 2)


def serve(path: str) -> None:
    """Fork a worker for each that asks, for ever. Says so on standard output once it can be asked."""
    import importlib

    import pytest

    for module in _BY_RAY_TUNE:
        importlib.import_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)  # as in a rank (sweeper/train/ranks/group.py)
        importlib.import_module("sweeper.train.ranks.worker")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a copy ended
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        print("ready", flush=True)
        while True:
            asking, _ = server.accept()
            with asking:
                request, streams = _received(asking)
                if os.fork() == 0:
                    server.close()
                    _work(request, streams, asking)
                for stream in streams:
                    os.close(stream)


def _received(asking: socket.socket) -> tuple[bytes, list[int]]:
    """What is asked for, and the three standard streams of who asks."""
    streams = array.array("i")
    room = socket.CMSG_LEN(len(_STREAMS) * streams.itemsize)
    head, ancillary, _, _ = asking.recvmsg(_LENGTH_BYTES, room)
    for _, _, data in ancillary:
        streams.frombytes(data)
    length = int.from_bytes(head, "big")
    return asking.recv(length, socket.MSG_WAITALL), list(streams)


def _work(request: bytes, streams: list[int], asking: socket.socket) -> None:
    """Be the worker, in the copy; ``asking`` stays open until its end."""
    import runpy

    os.setpgid(0, 0)  # as Ray does, which ends a worker's children by it
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder, environment, arguments = pickle.loads(request)
    for stream, number in zip(streams, _STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    sys.argv = arguments
    status = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    finally:
        asking.close()
        os._exit(status)


def _ask() -> None:
    """What Ray runs in place of its own set-up of a worker."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    known, arguments = parser.parse_known_args()
    of_job = json.loads(known.serialized_runtime_env_context).get("env_vars", {})
    request = pickle.dumps((str(Path.cwd()), {**os.environ, **of_job}, arguments))
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SOCKET])
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", _STREAMS))
        server.sendmsg([len(request).to_bytes(_LENGTH_BYTES, "big")], [rights])
        server.sendall(request)
        server.recv(1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        _ask()
