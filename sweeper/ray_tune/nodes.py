"""Whether the nodes of a cluster see what a trial reads and writes, before one begins."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeper.data import model_folder
from sweeper.errors import Problem, UserError
from sweeper.ray_tune.free_resources import ranks_with_room
from sweeper.remote import Files, RemoteFolder, node_root
from sweeper.space import Config, environment
from sweeper.training.ranks.group import rank_bundles

__all__ = ["forget_sweep", "require_visible"]

_ANSWERS_WITHIN_S = 120.0
_SHARED = "a trial needs it on whatever node it runs"
_REMEDY = (
    "put it on a file system that all nodes have under the same path, such as NFS or Lustre, "
    "or start the node without CPUs and GPUs for ranks"
)


def require_visible(config: Config, folder: Path, files: str | None = None) -> None:
    """Raises UserError where a node that may hold ranks does not see a path of the configuration, or another
    folder under the path of ``folder``, or has another version of this package; where nodes share no files,
    one that does not reach ``files``. Nodes of this host are not asked."""
    here, bundle = ray.util.get_node_ip_address(), rank_bundles(config)[0]
    nodes = [
        one
        for one in ray.nodes()
        if one["Alive"] and one["NodeManagerAddress"] != here and ranks_with_room([one["Resources"]], bundle)
    ]
    if not nodes:
        return
    mark = _existing(folder.absolute()) / f".seen-from-{socket.gethostname()}-{uuid.uuid4().hex}"
    paths = {"checkpoint_path": str(mark), **_local_paths(config)} if files is None else {}
    mark.touch()
    try:
        look = ray.remote(num_cpus=0, max_retries=0)(_look)
        variables = {} if files is None else environment(config.resources.env)
        asked = {
            one["NodeManagerAddress"]: look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(one["NodeID"], soft=False)
            ).remote(paths, files, variables)
            for one in nodes
        }
        problems = [one for node, answer in asked.items() for one in _told(node, answer, paths)]
    finally:
        mark.unlink(missing_ok=True)
    if problems:
        raise UserError(problems)


def forget_sweep(files: Files) -> None:
    """Have each node remove what it keeps of a sweep whose nodes share no files, if it answers."""
    remove = ray.remote(num_cpus=0, max_retries=0)(_remove)
    asked = [
        remove.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one["NodeID"], soft=False)).remote(
            files
        )
        for one in ray.nodes()
        if one["Alive"]
    ]
    ray.wait(asked, num_returns=len(asked), timeout=_ANSWERS_WITHIN_S)


def _remove(files: Files) -> None:
    shutil.rmtree(node_root(files), ignore_errors=True)


def _look(
    paths: Mapping[str, str], files: str | None, variables: Mapping[str, str]
) -> tuple[str, str, list[str]]:
    """On a node: its host, its version of this package, and the fields whose paths are not there. Raises
    UserError where it does not reach what is to be at ``files``."""
    if files is not None:
        os.environ |= variables
        RemoteFolder(files).check()
    missing = [field for field, path in paths.items() if not Path(path).exists()]
    return socket.gethostname(), importlib.metadata.version("sweeper"), missing


def _told(node: str, answer: object, paths: Mapping[str, str]) -> list[Problem]:
    """What is wrong with a node, by its address; nothing where it has gone in the meantime."""
    try:
        host, version, missing = ray.get(answer, timeout=_ANSWERS_WITHIN_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            return [replace(one, value=f"{one.value}, from {node}") for one in error.cause.problems]
        rule = f"the node cannot load sweeper: {error.cause}"
        return [
            Problem(where="the Ray cluster", value=node, rule=rule, remedy="install the same there as here")
        ]
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
        return []
    problems = []
    ours = importlib.metadata.version("sweeper")
    if version != ours:
        rule = f"the node has sweeper {version}, and this is {ours}"
        remedy = "install the same version there and here"
        problems.append(Problem(where="the Ray cluster", value=f"{host} ({node})", rule=rule, remedy=remedy))
    for field in missing:
        path = str(Path(paths[field]).parent) if field == "checkpoint_path" else paths[field]
        rule = f"the node {host} ({node}) does not see it, and {_SHARED}"
        problems.append(Problem(where=field, value=path, rule=rule, remedy=_REMEDY))
    return problems


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def _local_paths(config: Config) -> dict[str, str]:
    """Field -> path, of those that are there on this machine; ids of a hub and packaged files are none."""
    fields = {"model_path": model_folder(config.model_path)}
    fields |= {f"data_path {one.path}": one.path for one in config.sources}
    if isinstance(config.eval_data, str):
        fields["eval_data"] = config.eval_data
    there = {field: Path(path).expanduser().absolute() for field, path in fields.items()}
    return {field: str(path) for field, path in there.items() if path.exists()}
