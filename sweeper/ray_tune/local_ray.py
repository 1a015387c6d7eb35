"""A Ray of this machine's own, beside whatever else runs here."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sweeper.errors import UserError
from sweeper.ray_tune.free_gpus import Gpu

__all__ = ["refused_token", "start_local_ray"]

_OBJECT_STORE_BYTES = 256 * 2**20
"""Jobs and metrics are small; weights and data are files that ranks map."""
_DEVICES = "CUDA_VISIBLE_DEVICES"
_FEW_FILES = 1024
"""Ray's processes hold some hundreds of files open."""


def start_local_ray(*, cpus: int, gpus: Sequence[Gpu] | None) -> None:
    """Start a Ray with so many CPUs and these GPUs, or all that there are, and connect to it.

    Its files lie in a folder of its own, so that nothing of a neighbour's Ray is written over.

    Raises UserError where it does not start, with the reason and what to set.
    """
    import ray
    from ray._common.utils import get_default_ray_temp_dir

    folder = Path(get_default_ray_temp_dir()).absolute() / "local"
    try:
        with _on_loopback(), _visible(gpus), _without_idle_services():
            ray.init(
                address="local",  # never a neighbour's, nor one that /tmp/ray/ray_current_cluster still names
                num_cpus=cpus,
                num_gpus=None if gpus is None else len(gpus),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
            )
    except Exception as error:  # Ray raises of every kind, plain Exception among them
        raise _did_not_start(error, folder) from error


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray of this machine's own listens on 127.0.0.1, where it would on every address otherwise.

    Ray has it so on macOS and Windows. It reads ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER`` when it is
    imported, which may be long before; ``_node_ip_address="127.0.0.1"`` becomes an outside address.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _without_idle_services() -> Iterator[None]:
    """Two of Ray's processes have nothing to do here: one would add nodes, the other reads all logs again and
    again to print them. Ray has no word for leaving them out; where it names them otherwise, they start.
    """
    from ray._private.node import Node

    starts = {name: vars(Node)[name] for name in ("start_monitor", "start_log_monitor") if name in vars(Node)}
    for name in starts:
        setattr(Node, name, lambda _: None)
    try:
        yield
    finally:
        for name, start in starts.items():
            setattr(Node, name, start)


@contextmanager
def _visible(gpus: Sequence[Gpu] | None) -> Iterator[None]:
    """Ray shares out what ``CUDA_VISIBLE_DEVICES`` names. By UUID: CUDA numbers GPUs in another order than
    their driver does, the fastest first."""
    if gpus is None:
        yield
        return
    before = os.environ.get(_DEVICES)
    os.environ[_DEVICES] = ",".join(one.uuid for one in gpus)
    try:
        yield
    finally:
        os.environ.pop(_DEVICES)
        if before is not None:
            os.environ[_DEVICES] = before


def _did_not_start(error: Exception, folder: Path) -> UserError:
    value, remedy = _cause(error, folder)
    return UserError.of(
        where="the local Ray",
        value=value,
        rule=f"it did not start ({' '.join(str(error).split())})",
        remedy=remedy,
    )


def _cause(error: Exception, folder: Path) -> tuple[str, str]:
    """What is to be looked at, with its value, and what to set."""
    chosen = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "RAY_TMPDIR")
    temporary = f"{chosen}={os.environ.get(chosen, folder.parent.parent)}"
    if refused_token(error):
        path = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
        return f"RAY_AUTH_TOKEN_PATH={path}", "name a file that holds a token, or unset the variable"
    if "AF_UNIX path length" in str(error):
        return temporary, "set RAY_TMPDIR to a folder with a shorter path, such as /tmp"
    token = Path.home() / ".ray" / "auth_token"
    if isinstance(error, OSError) and Path(str(error.filename)) in (token, *token.parents):
        remedy = "Ray keeps a token there: set HOME to a folder that can be written, or RAY_AUTH_TOKEN"
        return f"HOME={Path.home()}", f"{remedy} to a long text that nobody knows"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < _FEW_FILES:
        return f"ulimit -n {files}", "let a process have more open files: `ulimit -n 8192`"
    if isinstance(error, OSError):
        return temporary, "set RAY_TMPDIR to a folder that can be written and has room"
    logs = folder / "session_latest" / "logs"
    return temporary, f"its logs are in {logs}; where the folder has no room left, set RAY_TMPDIR to another"


def refused_token(error: BaseException | None) -> BaseException | None:
    """What Ray says of a token that is missing or wrong: this error, or one that it came from.

    By its name, as Ray has only its traceback left when it has tried often enough.
    """
    while error is not None and "AuthenticationError" not in f"{type(error).__name__}: {error}":
        error = error.__cause__ or error.__context__
    return error
