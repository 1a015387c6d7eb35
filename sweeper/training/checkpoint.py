"""The whole state of a run in one folder, written whole or not at all.

``state/`` is DeepSpeed's checkpoint (weights, optimizer, schedule, loss scale), ``random-<rank>.pt``
the random generators of each rank, ``progress.json`` where the trainer was. The place in the data
follows from the step: the order of the rows is a function of the seed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from sweeper.data import Rows, TokenizedData, difference, made_beside
from sweeper.errors import CheckpointError, TrialFailedError, UserError
from sweeper.space import Config, lasting_tree, read_record
from sweeper.training.best import BestEvaluation
from sweeper.training.memory import is_cpu
from sweeper.training.parallel.checkpoint_engine import TAG, WRITE_ERRORS

if TYPE_CHECKING:
    from sweeper.training.parallel.executor import Executor

__all__ = ["TrainingPosition", "on_all_ranks", "restore", "restore_fork", "run_hash", "save"]

_PROGRESS = "progress.json"


@dataclass(frozen=True, kw_only=True)
class TrainingPosition:
    """Where a run is."""

    step: int
    """Optimizer steps done."""
    first_loss: float | None
    """Of the first step; what divergence is measured against."""
    recent_losses: tuple[float, ...]
    """Of the last steps, which divergence is judged by."""
    elapsed_s: float
    objective: float | None
    """At the evaluation that the state was written after; None of a state between two evaluations."""
    violation: float = 0.0
    """By how much that evaluation breaks the constraints."""
    ranks: int
    run: str
    """Which run it is: a hash of everything that its steps follow from."""
    best: BestEvaluation | None = None
    """Up to here; None also of a checkpoint that is older than this field."""
    history: str | None = None
    """Which steps have led here, see ``history_hash``; None where the split of the batch has changed on the
    way, and of a checkpoint that is older than this field."""


_HASHED = ("training", "deepspeed", "parallel")
_SPLIT = {
    "training": {"per_device_batch_size", "gradient_accumulation_steps"},
    "deepspeed": {"gradient_checkpointing"},
}
"""How a step is computed, and not what: a run may go on with less memory than it began with."""


def run_hash(config: Config, rows: str) -> str:
    """Equal for two runs whose steps are equal: the same model, rows and settings of the training.

    A field of the settings that is newer than a run leaves its hash as it is, while it has its default.

    Args:
        rows: ``TokenizedData.content``.
    """
    settings: dict[str, Any] = {"model_path": config.model_path}
    for part in _HASHED:
        tree = lasting_tree(getattr(config, part), part)
        settings[part] = {name: tree[name] for name in tree if name not in _SPLIT.get(part, ())}
    text = json.dumps([settings, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(executor: Executor, folder: Path, place: TrainingPosition, *, leads: bool) -> None:
    """Write a new folder. All ranks call it; one of those that share a file system ``leads``, and where there
    are several of these, each gets the files of its ranks.

    Raises: FileExistsError where the folder is there already; CheckpointError, on every rank, where one
    of them cannot write: what lies there stays as it was.
    """
    draft = folder.with_name(f".{folder.name}.partial")
    if folder.exists():
        raise FileExistsError(folder)
    try:
        on_all_ranks(folder, lambda: _begin(draft, leads=leads))
        free_bytes = shutil.disk_usage(draft).free
        needed_bytes, problem = executor.save_checkpoint(draft)
        on_all_ranks(folder, lambda: _finish_rank(draft, problem, needed_bytes, free_bytes))
        on_all_ranks(folder, lambda: _publish(draft, folder, place, leads=leads))
    finally:
        if leads:
            shutil.rmtree(draft, ignore_errors=True)


def _begin(draft: Path, *, leads: bool) -> None:
    if leads:
        shutil.rmtree(draft, ignore_errors=True)
        (draft / TAG).mkdir(parents=True)


def _finish_rank(draft: Path, problem: str, needed_bytes: int, free_bytes: int) -> None:
    if not problem:
        torch.save(_random_state(), draft / f"random-{dist.get_rank()}.pt")
        return
    sizes = f"this rank's part needs {needed_bytes / 2**30:.3g} GiB, {free_bytes / 2**30:.3g} GiB were free"
    raise OSError(f"{problem} ({sizes})")


def _publish(draft: Path, folder: Path, place: TrainingPosition, *, leads: bool) -> None:
    if dist.get_rank() == 0:
        (draft / _PROGRESS).write_text(json.dumps(asdict(place)), encoding="utf-8")
    if leads:
        _flush(draft)
        draft.replace(folder)


def on_all_ranks(place: Path, action: Callable[[], None]) -> None:
    """Write something on every rank. Where it fails on one, all raise CheckpointError."""
    problem = ""
    try:
        action()
    except WRITE_ERRORS as error:
        problem = str(error) or type(error).__name__
    problems = [problem]
    if dist.get_world_size() > 1:
        problems = [""] * dist.get_world_size()
        dist.all_gather_object(problems, problem)
    said = "; ".join(dict.fromkeys(filter(None, problems)))
    if said:
        raise CheckpointError(f"could not be written to {place.parent}: {said}")


def restore(executor: Executor, folder: Path, config: Config, data: TokenizedData) -> TrainingPosition:
    """Take up what ``save`` wrote, on as many ranks as then.

    Raises: TrialFailedError where the folder is no whole checkpoint; UserError where it is another run's.
    """
    place = _position(folder)
    _require_same_run(place, folder, config, data)
    _take_up(executor, folder)
    return place


def restore_fork(executor: Executor, folder: Path, history_at: Callable[[int], str]) -> TrainingPosition:
    """Take up what another run wrote, where its steps are this one's to the last bit.

    Args:
        history_at: this run's ``history_hash`` after so many steps.

    Raises: TrialFailedError, before anything is changed, where the state is not there or of other steps.
    """
    place = _position(folder)
    if place.history != history_at(place.step) or place.ranks != dist.get_world_size():
        raise TrialFailedError(f"{folder} is of other steps")
    _take_up(executor, folder)
    executor.follow_own_schedule()
    return place


def _position(folder: Path) -> TrainingPosition:
    try:
        return read_record(TrainingPosition, json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise TrialFailedError(f"{folder} is not a whole checkpoint: {error}") from error


def _take_up(executor: Executor, folder: Path) -> None:
    executor.load_checkpoint(folder)
    _set_random_state(torch.load(folder / f"random-{dist.get_rank()}.pt", weights_only=True))


def _require_same_run(place: TrainingPosition, folder: Path, config: Config, data: TokenizedData) -> None:
    rows = _rows_of(place.run, config, data)
    if rows is None or place.ranks != dist.get_world_size():
        raise UserError.of(
            where=str(folder),
            value=f"{place.ranks} ranks, step {place.step}",
            rule="the checkpoint is of a run with other settings, data or ranks",
            remedy="go on with the settings that it was begun with, or delete it to begin anew",
        )
    if rows.content != data.content:
        raise UserError.of(
            where=str(folder),
            value=f"step {place.step}",
            rule=f"the run began with other rows: {difference(rows, data)}",
            remedy="go on with the data and the version of sweeper that it was begun with (an older one "
            "learned what the chat template writes: learn_template_text: true), or delete it to begin anew",
        )


def _rows_of(run: str, config: Config, data: TokenizedData) -> Rows | None:
    """The rows that a run of this configuration was begun with, among those that lie in the cache.

    Before format_version 2 a run named them by their fingerprint, which changes with this package.
    """
    caches: Iterable[Rows] = itertools.chain([data], made_beside(data.folder))
    for rows in caches:
        if run in (run_hash(config, rows.content), run_hash(config, rows.fingerprint)):
            return rows
    return None


def _random_state() -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "device": None if is_cpu() else get_accelerator().get_rng_state(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["device"] is not None:
        get_accelerator().set_rng_state(state["device"])


def _flush(folder: Path) -> None:
    """To the disk before the rename, so that a machine that stops leaves no folder that only looks whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
