"""Which states of a trial stay on the disk, and whose model is saved."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from sweeper.errors import CheckpointError
from sweeper.space import violation
from sweeper.training.engine import Engine, Job, Progress

__all__ = ["CheckpointRetention", "discard", "newest_checkpoint", "state_folder", "states_in"]

_STEP = "step-"


class CheckpointRetention:
    """Keeps what the configuration of one trial says should be kept."""

    def __init__(self, job: Job) -> None:
        self._folder, self._model_folder = job.checkpoints, job.model_folder
        self._settings, self._objective = job.config.checkpoints, job.config.objective
        self._best_so_far = job.best_so_far
        self._sign = 1.0 if self._objective.mode == "min" else -1.0
        self._sweep_dir = job.cache_dir.parent

    def keep_state(self, engine: Engine, progress: Progress) -> None:
        """Write the state after an evaluation, then remove those that it makes superfluous."""
        if self._folder is None or not self._settings.keep_last:
            return
        target = state_folder(self._folder, progress.step)
        if not target.exists():
            engine.checkpoint(target)
        for superfluous in self._superfluous(self._folder):
            discard(superfluous, inside=self._sweep_dir)

    def keep_model(self, engine: Engine, progress: Progress) -> None:
        """Save the model of a finished trial, if it is one to keep."""
        if self._model_folder is None or self._settings.model == "none":
            return
        if self._objective.at == "best" and progress.best is None:
            return  # no evaluation is a number: the trial has failed
        if self._settings.model == "all" or self._is_best(self._judged(progress)):
            self.go_to_judged(engine, progress)
            discard(self._model_folder, inside=self._sweep_dir)
            engine.save_model(self._model_folder)

    def go_to_judged(self, engine: Engine, progress: Progress) -> None:
        """Have the engine hold the model that a finished trial is judged by: with ``objective.at: best``
        that of its best evaluation, by the state that was kept of it. It trains no further then.

        Raises CheckpointError where that state is not there, because it could not be written.
        """
        best = progress.best
        if self._objective.at == "end" or best is None or best.step == progress.step:
            return
        state = None if self._folder is None else state_folder(self._folder, best.step)
        if state is None or not state.is_dir():
            raise CheckpointError(
                f"the model of the best evaluation, after step {best.step}, is lost: its state could not be "
                "written; objective.at: end keeps the model at the end instead"
            )
        engine.restore(state)

    def _judged(self, progress: Progress) -> Mapping[str, float]:
        is_best = self._objective.at == "best" and progress.best is not None
        return progress.best.metrics if is_best and progress.best else progress.metrics

    def _is_best(self, metrics: Mapping[str, float]) -> bool:
        """Of equal trials the first is best; with two objectives it may be a later one that costs less. What
        keeps to the constraints is not beaten by what does not."""
        value = metrics[self._objective.metric]
        if self._best_so_far is None:
            return True
        if violation(self._objective, metrics):
            return False
        if self._sign * value < self._sign * self._best_so_far:
            return True
        return self._objective.also is not None and value == self._best_so_far

    def _superfluous(self, folder: Path) -> list[Path]:
        states = list(states_in(folder).values())
        kept = set(states[-self._settings.keep_last :])
        if self._settings.keep_best:
            kept.add(min(states, key=self._badness))
        return [state for state in states if state not in kept]

    def _badness(self, state: Path) -> tuple[float, float]:
        place = json.loads((state / "progress.json").read_text(encoding="utf-8"))
        value = place["objective"]
        if value is None or not math.isfinite(value):
            return math.inf, math.inf
        return place.get("violation", 0.0), self._sign * float(value)


def newest_checkpoint(folder: Path) -> Path | None:
    """The state with the most steps in a trial's folder; None where there is none."""
    return next(reversed(states_in(folder).values()), None)


def discard(folder: Path, *, inside: Path) -> None:
    """Remove a folder so that it is never seen half-removed under its name.

    Nothing is removed that lies outside of ``inside``: where a link leads out of it, what is behind the
    link stays, and so does a link on the way.
    """
    if not folder.parent.resolve().is_relative_to(inside.resolve()):
        return
    doomed = folder.with_name(f".{folder.name}.removed")
    _remove(doomed)
    if folder.exists() or folder.is_symlink():
        folder.replace(doomed)
        _remove(doomed)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def state_folder(folder: Path, step: int) -> Path:
    """Where the state after so many optimizer steps lies."""
    return folder / f"{_STEP}{step:08d}"


def states_in(folder: Path) -> dict[int, Path]:
    """Whole states by their steps; drafts begin with a dot."""
    found = sorted(folder.glob(f"{_STEP}*")) if folder.is_dir() else []
    return {int(state.name.removeprefix(_STEP)): state for state in found}
