"""Ray: an existing cluster, or one on this machine for as long as it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sweeper.errors import UserError
from sweeper.spec import Config

__all__ = ["ray_for"]

_OBJECT_STORE_BYTES = 256 * 2**20
"""Jobs and metrics are small; weights and data are files that ranks map."""

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


@contextmanager
def ray_for(config: Config, *, places: int) -> Iterator[None]:
    """Ray with room for ``places`` trials like ``config``. What was running before is left running.

    Raises UserError when the cluster cannot be reached.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    address = config.resources.ray_address
    try:
        if address is None:
            ranks = config.parallel.ranks * places
            # One CPU more than the ranks use, for the coordinators' small shares.
            with _on_loopback():
                ray.init(
                    address="local",  # never one that /tmp/ray/ray_current_cluster names
                    num_cpus=max(os.cpu_count() or 1, config.resources.cpus_per_rank * ranks) + 1,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=_OBJECT_STORE_BYTES,
                )
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError.of(
            where="resources.ray_address",
            value=address or "a local Ray",
            rule=f"cannot be reached ({error})",
            remedy="start the cluster with `ray start --head`, or take the key out to run on this machine",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


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
