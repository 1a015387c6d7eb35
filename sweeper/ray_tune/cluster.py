"""Ray: an existing cluster, or one on this machine for as long as it is needed."""

from __future__ import annotations

import gc
import importlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeper.autotune import shapes_of
from sweeper.errors import UserError
from sweeper.ray_tune.free_gpus import Gpu, free_gpus
from sweeper.ray_tune.local_ray import refused_token, start_local_ray
from sweeper.screen.interrupts import unheard_by_children
from sweeper.space import ClusterAddress, Config, Space, cluster_address, environment

__all__ = ["ray_for", "ray_request"]

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # Ray's 15 gives a trial a thirtieth of a core that a plain process wants too
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger and MLflow have it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends in our own words and exit status
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # resuming reads the ledger, not Ray's snapshot
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_AUTHENTICATION = "RAY_AUTH_MODE"
_ANSWERS_WITHIN_S = 10.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""What a client of HTTP/2 says first, with settings of its own, of which there are none (RFC 9113, 3.4)."""

Say = Callable[[str], None]


def ray_request(space: Space) -> tuple[Config, int]:
    """The largest trial, and how many of it there may be at once: what Ray needs room for."""
    config = max(shapes_of(space), key=lambda one: one.parallel.ranks)
    return config, config.resources.max_concurrent


@contextmanager
def ray_for(
    config: Config,
    *,
    places: int,
    say: Say,
    folder: Path | None = None,
    files: str | None = None,
    wanted_next: str | None = None,
) -> Iterator[None]:
    """Ray with room for ``places`` trials like ``config``, the largest; a cluster has room for one at least.

    What was running before is left running.

    Args:
        folder: where the trials write; all nodes of a cluster have to see it.
        files: through which address they exchange their files instead.
        wanted_next: a module that is imported while Ray starts, which is mostly waiting.

    Raises:
        UserError: the cluster cannot be reached, could never hold a trial, or has nodes that do not see what
            one needs; a local Ray does not start.
        KeyboardInterrupt: somebody wants an end while Ray starts.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    environment(config.resources.env)  # what is missing is said before Ray starts
    is_chosen = _AUTHENTICATION in os.environ
    import ray

    from sweeper.ray_tune.free_resources import require_room

    if ray.is_initialized():
        if config.resources.min_free_gib is not None:
            say("min_free_gib is not looked at: the Ray that is running here has its GPUs already")
        require_room(config, "the running Ray")
        yield
        return
    cluster = cluster_address(config.resources.ray_address)
    if wanted_next is not None:
        threading.Thread(target=importlib.import_module, args=(wanted_next,), daemon=True).start()
    try:
        if cluster is None:
            _start(config, places, say)
        else:
            say(f"connecting to the Ray cluster {cluster.address} ({cluster.where})")
            _connect(cluster)
        require_room(config, "this machine" if cluster is None else f"the Ray cluster {cluster.address}")
        if cluster is not None and folder is not None:
            from sweeper.ray_tune.nodes import require_visible

            require_visible(config, folder, files)
        yield
    except SystemExit as signal:  # SIGTERM, which Ray has a handler of its own for until ours is back
        raise KeyboardInterrupt from signal
    finally:
        gc.collect()  # a reference that is collected after Ray has ended ends the process
        ray.shutdown()
        if not is_chosen:
            _forget_authentication()


def _start(config: Config, places: int, say: Say) -> None:
    """A Ray of this machine's own."""
    say("starting Ray")
    cpus = max(os.cpu_count() or 1, config.resources.cpus_per_rank * config.parallel.ranks * places)
    gpus = _chosen_gpus(config, places, say)
    with unheard_by_children():
        start_local_ray(cpus=cpus, gpus=gpus)


def _forget_authentication() -> None:
    """A Ray of this machine's own asks for a token, and has this process and its children bring one from then
    on: a cluster that asks for none could not talk to them."""
    if _AUTHENTICATION in os.environ:
        library: Any = importlib.import_module("ray._raylet")
        os.environ[_AUTHENTICATION] = "disabled"
        library.Config.initialize("")  # Ray's library keeps what it read, where the variable is gone as well
        library.AuthenticationTokenLoader.instance().reset_cache()
        del os.environ[_AUTHENTICATION]


def _chosen_gpus(config: Config, places: int, say: Say) -> tuple[Gpu, ...] | None:
    """None: all that there are."""
    if config.resources.min_free_gib is None or not config.resources.gpus_per_rank:
        return None
    gpus = free_gpus(config, places, say)
    say(f"using {', '.join(f'GPU {one.index} ({one.free_gib:.1f} GiB free)' for one in gpus)}")
    return gpus


def _connect(cluster: ClusterAddress) -> None:
    """Raises UserError."""
    import ray

    if cluster.address.startswith("ray://"):
        raise UserError.of(
            where=cluster.where,
            value=cluster.address,
            rule="is an address of Ray Client, through which no sweep can be run",
            remedy="write host:port of the cluster's head (6379 by default), and give the command on a "
            "machine of the cluster, or with `ray job submit`",
        )
    try:
        if "://" not in cluster.address:
            _require_answer(cluster.address)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        if told := refused_token(error):
            raise _unauthenticated(cluster, told) from error
        if not isinstance(error, (OSError, RuntimeError, ValueError)):
            raise
        remedy = "start the cluster with `ray start --head`, or take the key out to run on this machine"
        if cluster.where != "resources.ray_address":
            remedy = (
                "start that cluster, or unset the variable; `ray_address: local` under resources runs on "
                "this machine in any case"
            )
        raise UserError.of(
            where=cluster.where, value=cluster.address, rule=f"cannot be reached ({error})", remedy=remedy
        ) from error


def _require_answer(written: str) -> None:
    """Raises OSError or ValueError where nothing answers as the head of a cluster does, which speaks gRPC.

    Ray would try for five minutes, in silence and deaf to signals.
    """
    from ray._private.services import canonicalize_bootstrap_address

    address = canonicalize_bootstrap_address(written)  # ``auto`` may be what a dead cluster has left
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S) as connection:
            answers = os.environ.get("RAY_USE_TLS", "0") == "1" or _speaks_http2(connection)
    except OSError as error:
        raise ConnectionError(f"{address}: {error}") from error
    if not answers:
        raise ConnectionError(f"what answers at {address} is not the head of a Ray cluster")


def _speaks_http2(connection: socket.socket) -> bool:
    """Which a web page does not: 8265 is the dashboard's port."""
    connection.sendall(_HTTP2_PREFACE)
    return connection.recv(9)[3:4] == b"\x04"  # its settings


def _unauthenticated(cluster: ClusterAddress, error: BaseException) -> UserError:
    rule = "asks for a token, and the one that is set here is not the cluster's"
    if os.environ.get(_AUTHENTICATION, "").lower() != "token":
        rule = "asks for a token, and RAY_AUTH_MODE is not token here, so that none is sent"
    elif "no authentication token was found" in str(error):
        rule = "asks for a token (RAY_AUTH_MODE=token), and none is set here"
    return UserError.of(
        where=cluster.where,
        value=cluster.address,
        rule=rule,
        remedy="set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on the "
        "cluster's head",
    )
