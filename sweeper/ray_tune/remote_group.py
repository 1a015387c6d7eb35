"""The ranks of a trial on nodes that share no file system, seen from outside as any other engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeper.data import base_name
from sweeper.errors import CheckpointError, SweeperError, TrialLostError
from sweeper.parent_death import die_with_parent
from sweeper.remote import Files, NodeFiles, TrialExchange, inside, moved, name_of, node_root
from sweeper.space import Config
from sweeper.training import Job, Prepared, Progress, newest_checkpoint, states_in
from sweeper.training.ranks.group import WorkerGroup

__all__ = ["RemoteGroup", "arrived"]

_PRINTED_WITHIN_S = 10.0


def arrived(job: Job) -> tuple[Job, TrialExchange]:
    """A trial's job as its coordinator goes by it: with shells of its states, see ``Shells``. Raises
    RemoteFilesError."""
    assert job.files is not None and job.checkpoints is not None
    exchange = TrialExchange(job.files, job.checkpoints.parent, (job.stop_file, job.pause_file))
    here = moved(job, job.files, exchange.root)
    printed = inside(job.log_file, job.files, node_root(job.files))  # by this process as well
    printed.parent.mkdir(parents=True, exist_ok=True)
    newest = None if here.checkpoints is None else newest_checkpoint(here.checkpoints)
    return replace(here, log_file=printed, resume_from=newest), exchange


class _Node:
    """An actor beside the ranks: it outlives one that dies, and is not kept to its memory."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        die_with_parent()
        os.environ |= variables
        self._files = NodeFiles()

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._files, method)(*arguments)


class RemoteGroup(WorkerGroup):
    """Before a call that reads files each node gets them, and after one that writes some each sends its own.

    The paths of its calls are those of the shells.
    """

    def __init__(
        self,
        config: Config,
        placement: PlacementGroup | None,
        *,
        variables: Mapping[str, str],
        **options: Any,
    ) -> None:
        self._nodes: list[Any] = []
        super().__init__(config, placement, variables=variables, **options)
        actor = ray.remote(num_cpus=0, max_restarts=0)(_Node)
        self._nodes = [
            actor.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            ).remote(variables)
            for node in self.nodes
        ]
        self.exchange: TrialExchange | None = None
        """Of the present trial; to be set before it is prepared."""

    def prepare(self, job: Job) -> Prepared:
        files, exchange = self._shells(), self.exchange
        assert exchange is not None
        states = [name_of(one, files) for one in (job.resume_from, job.fork_from) if one is not None]
        rows = name_of(job.data_dir, files)
        folder, _, name = rows.rpartition("/")
        self._on_nodes("begin", exchange.files, exchange.trial, states, [f"{folder}/{base_name(name)}"])
        here = moved(job, files, node_root(files))
        assert here.processes is not None
        return super().prepare(replace(here, processes=here.processes / files.driver))

    def advance(self) -> Progress:
        progress = super().advance()
        assert self.exchange is not None
        folder = f"{self.exchange.trial}/left"
        for item in sorted({one for found in self._on_nodes("states", folder) for one in found}):
            if not (self.exchange.root / item).is_dir():
                self._send(item)
        return progress

    def checkpoint(self, folder: Path) -> None:
        super().checkpoint(self._on_disk(folder))
        self._send(name_of(folder, self._shells()))
        kept = [name_of(one, self._shells()) for one in states_in(folder.parent).values()]
        self._on_nodes("keep_only", kept)

    def restore(self, folder: Path) -> None:
        self._on_nodes("bring", [name_of(folder, self._shells())])
        super().restore(self._on_disk(folder))

    def save_model(self, folder: Path, merge: bool = False) -> None:
        super().save_model(self._on_disk(folder), merge)
        self._send(name_of(folder, self._shells()))

    def shut_down(self) -> None:
        super().shut_down()
        if self._nodes:
            printed = [one.call.remote("flush") for one in self._nodes]
            ray.wait(printed, num_returns=len(printed), timeout=_PRINTED_WITHIN_S)
        for node in self._nodes:
            ray.kill(node)
        self._nodes = []

    # -----------------------------------------------------------------------------------------

    def _shells(self) -> Files:
        assert self.exchange is not None
        return replace(self.exchange.files, folder=self.exchange.root)

    def _on_disk(self, folder: Path) -> Path:
        return inside(folder, self._shells(), node_root(self._shells()))

    def _send(self, item: str) -> None:
        """Raises CheckpointError where not all of it has arrived."""
        assert self.exchange is not None
        parts = self._on_nodes("part", item)
        written = self.exchange.commit(item, parts)
        if len(parts) == 1:
            self._on_nodes("note_whole", item, written)

    def _on_nodes(self, method: str, *arguments: Any) -> list[Any]:
        try:
            return list(ray.get([one.call.remote(method, *arguments) for one in self._nodes]))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OSError) and method == "part":
                raise CheckpointError(str(error.cause)) from error
            raise error.cause if isinstance(error.cause, SweeperError) else error from error
        except ray.exceptions.RayError as error:
            raise TrialLostError(f"a node is lost ({type(error).__name__})") from error
