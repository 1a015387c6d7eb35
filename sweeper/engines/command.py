"""Implements ``Engine`` over a command line: ``prepare`` starts it, ``advance`` reads, ``stop`` ends it."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.engines.endings import Ending, error_of, silence
from sweeper.engines.files import TrialPlace
from sweeper.engines.metrics import Point, Reader, reader_of
from sweeper.engines.processes import CommandProcess
from sweeper.errors import CheckpointError, TrialDivergedError
from sweeper.space import Engine as EngineSection
from sweeper.space import write_whole
from sweeper.training import Job, Moved, Prepared, Progress, StepMetrics
from sweeper.training.best import BestEvaluation, BestSoFar
from sweeper.training.moved import MovedFile
from sweeper.training.ranks.processes import out_of_memory_kills

__all__ = ["CommandEngine"]

_LOOK_EVERY_S = 0.1
_LAST_LOOK_S = 0.2
"""A file on another machine may show a moment later what was written before the command ended."""


class CommandEngine:
    """One trial at a time; calls come from one thread.

    The command runs on while nobody asks: an evaluation is told when it is read, and a trial that is stopped
    then has trained a little further.
    """

    def __init__(
        self,
        section: EngineSection,
        *,
        pause_wanted: Callable[[], bool] = lambda: False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``pause_wanted`` is asked while the command runs: it is ended then, as it cannot pause. Its
        environment has the ``variables``."""
        self._section, self._pause_wanted = section, pause_wanted
        self._variables = variables or {}
        self._process: CommandProcess | None = None
        self._trial: _Trial | None = None

    has_run_before = False
    """Each trial has new processes."""

    def prepare(self, job: Job) -> Prepared:
        """Start the command, and wait for its first evaluation: how long the trial is is not known before.

        Raises what ``advance`` raises.
        """
        self.stop()
        place = TrialPlace(job, self._section)
        state = place.newest_state()
        place.make_ready(fresh=state is None)
        words, variables = place.write(state)
        oom_kills = out_of_memory_kills()
        self._process = CommandProcess(
            words,
            tag=place.tag,
            leash=place.leash,
            variables={**self._variables, **variables},
            log_file=job.log_file,
            folder=job.working_dir,
            memory_limit_gib=job.config.resources.memory_limit_gib,
        )
        before = self._process.logged_before
        reader = reader_of(self._section.metrics, place.places, job.log_file, logged_before=before)
        self._trial = _Trial(job, place, reader, rows=place.rows_of_a_step, oom_kills=oom_kills)
        self._wait(self._trial)
        note = "the command began anew" if state is None else f"the command goes on from {_name(state)}"
        steps, tokens = self._trial.total()
        return Prepared(
            total_steps=steps,
            total_tokens=tokens,
            ds_config={},
            model_notes=(note,) if job.retries or state is not None else (),
        )

    def advance(self) -> Progress:
        """The next evaluation, or the end.

        Raises TrialDivergedError, TrialLostError, TrialOutOfMemoryError, TrialFailedError, and UserError
        where no trial of this command could have a result.
        """
        assert self._trial is not None
        self._wait(self._trial)
        return self._trial.take()

    def _wait(self, trial: _Trial) -> None:
        """Until there is something to tell."""
        while not trial.has_news:
            assert self._process is not None
            status = self._process.status()
            if status is not None:
                time.sleep(_LAST_LOOK_S)
            trial.look(at_once=status is not None)
            if not trial.has_news:
                self._go_on(self._process, trial, status)

    def _go_on(self, process: CommandProcess, trial: _Trial, status: int | None) -> None:
        """Nothing is new: it has ended, or is ended, or is looked at again a little later."""
        if status is not None:
            self._ended(trial, status)
        elif self._pause_wanted():
            process.end()
            trial.pause()
        elif trial.silent_s > self._section.silent_after_s:
            process.end()
            raise silence(self._section, trial.ending(None))
        else:
            time.sleep(_LOOK_EVERY_S)

    def _ended(self, trial: _Trial, status: int) -> None:
        if status == 0 and trial.has_result:
            trial.finish()
            return
        raise error_of(self._section, trial.ending(status))

    def checkpoint(self, folder: Path) -> None:
        """Nothing: the trainer writes its own states."""

    def restore(self, folder: Path) -> None:
        """Nothing: the trainer goes on from its own states."""

    def save_model(self, folder: Path, merge: bool = False) -> None:
        """Move what the trainer has written to where models are kept.

        Raises CheckpointError where there is none.
        """
        assert self._trial is not None
        written = self._trial.place.model
        if not written.exists():
            raise CheckpointError(f"the engine has left no model at {written} (engine.model)")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.move(written, folder)
        except OSError as error:
            raise CheckpointError(f"the model could not be moved to {folder}: {error}") from error

    def stop(self) -> None:
        """End the command and all that it has started."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def should_recycle(self) -> bool:
        """Each trial has new processes."""
        return True

    def shut_down(self) -> None:
        self.stop()


def _name(state: Path) -> str:
    """Of a state, or of the one that a file is in."""
    return state.name if state.is_dir() else state.parent.name


class _Trial:
    """What one command has said so far."""

    def __init__(self, job: Job, place: TrialPlace, reader: Reader, *, rows: int, oom_kills: int) -> None:
        self.place, self._job, self._reader, self._rows = place, job, reader, rows
        self._oom_kills = oom_kills
        self._objective = job.config.objective
        self._best = BestSoFar(self._objective)
        self._began = time.monotonic() - place.elapsed_s
        self._heard, self._logged, self._looked = time.monotonic(), 0, 0.0
        self._moved = MovedFile(job.progress_file)
        self._step = self._tokens = self._evaluations = self._total_steps = 0
        self._epoch: float | None = None
        self._gathered: dict[str, float] = {}
        self._steps: list[StepMetrics] = []
        self._news: list[Progress] = []
        self._last: Progress | None = None
        self._seen: dict[str, None] = {}

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    @property
    def has_result(self) -> bool:
        return self._last is not None

    @property
    def silent_s(self) -> float:
        """Since it last printed or measured something."""
        return time.monotonic() - self._heard

    def take(self) -> Progress:
        return self._news.pop(0)

    def look(self, *, at_once: bool) -> None:
        """Read what is new, where it is time or ``at_once``. Raises TrialDivergedError."""
        size = self._job.log_file.stat().st_size
        if size != self._logged:
            self._logged, self._heard = size, time.monotonic()
        now = time.monotonic()
        if not at_once and now - self._looked < self._reader.look_every_s:
            return
        self._looked = now
        for point in self._reader.read():
            self._heard = time.monotonic()
            self._take(point)

    def total(self) -> tuple[int, int]:
        """Steps and rows (or tokens) of the whole trial, as far as the first evaluation tells, else 0."""
        last = self._last
        if last is None or not last.step:
            return 0, 0
        epochs = self._job.config.training.epochs
        names = self._job.config.engine.names if self._job.config.engine else {}
        share = self._epoch / epochs if self._epoch and "training.epochs" in names else 0.0
        steps = self._total_steps or (round(last.step / share) if share else 0)
        return steps, max(round(last.tokens * steps / last.step), last.tokens) if steps else 0

    def pause(self) -> None:
        step, tokens = (self._last.step, self._last.tokens) if self._last else (0, 0)
        self._tell(step, tokens, {}, paused=True)

    def finish(self) -> None:
        """The last evaluation was the end."""
        assert self._last is not None
        self._news.append(
            Progress(
                step=self._last.step,
                tokens=self._last.tokens,
                seconds=time.monotonic() - self._began,
                metrics={},
                steps=self._told_steps(),
                done=True,
                best=self._best.evaluation,
            )
        )

    def ending(self, status: int | None) -> Ending:
        return Ending(
            status=status,
            log_file=self._job.log_file,
            logged_before=self.place.logged_before,
            metric=self._objective.metric,
            seen=tuple(self._seen),
            is_limited=self._job.config.resources.memory_limit_gib is not None,
            kernel_killed=out_of_memory_kills() > self._oom_kills,
        )

    def _take(self, point: Point) -> None:
        self._seen |= dict.fromkeys(point.metrics)
        self._step = point.step if point.step is not None else self._step
        self._epoch = point.epoch if point.epoch is not None else self._epoch
        self._total_steps = point.total_steps or self._total_steps
        training = {key: value for key, value in point.metrics.items() if key.startswith("train/")}
        evaluated = {key: value for key, value in point.metrics.items() if key.startswith("eval/")}
        if "train/loss" in training:
            self._take_step(point, training)
        self._gathered |= evaluated
        if self._objective.metric in evaluated:
            self._evaluate(point)

    def _take_step(self, point: Point, training: dict[str, float]) -> None:
        loss, step = training["train/loss"], self._step
        if not math.isfinite(loss):
            raise TrialDivergedError(f"diverged at step {step}: train/loss {loss}")
        tokens = point.tokens if point.tokens is not None else step * self._rows
        lr = training.get("train/lr", math.nan)
        norm = training.get("train/grad_norm")
        if step and math.isfinite(lr):
            told = StepMetrics(step=step, tokens=tokens, loss=loss, lr=lr, grad_norm=norm, time_s=time.time())
            self._steps.append(told)
        per_s = tokens / max(time.monotonic() - self._began, 1e-9)
        self._moved.write(Moved(step=step, tokens=tokens, tokens_per_s=per_s))

    def _evaluate(self, point: Point) -> None:
        metrics, self._gathered = self._gathered, {}
        self._evaluations += 1
        step = self._step if point.step is not None or self._step else self._evaluations
        value = metrics[self._objective.metric]
        if not math.isfinite(value):
            raise TrialDivergedError(f"diverged at step {step}: {self._objective.metric} {value}")
        tokens = point.tokens if point.tokens is not None else step * self._rows
        if step:
            self._best.take(BestEvaluation(step=step, tokens=tokens, metrics=dict(metrics)))
        self._tell(step, tokens, metrics)

    def _tell(self, step: int, tokens: int, metrics: dict[str, float], *, paused: bool = False) -> None:
        progress = Progress(
            step=step,
            tokens=tokens,
            seconds=time.monotonic() - self._began,
            metrics=metrics,
            steps=self._told_steps(),
            paused=paused,
        )
        self._news.append(progress)
        if not paused:
            self._last = progress
            with suppress(OSError):
                write_whole(self.place.elapsed_file, json.dumps(progress.seconds))

    def _told_steps(self) -> tuple[StepMetrics, ...]:
        steps, self._steps = tuple(self._steps), []
        return steps
