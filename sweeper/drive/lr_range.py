"""The LR range test: one short run of rising learning rate, for `sweeper lr-range` and before a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from sweeper.autotune import STEPS, LrRange, is_lost, read_range, tried_range
from sweeper.data import prepared_folder
from sweeper.drive.cluster import ray_for
from sweeper.drive.recovery import recover
from sweeper.errors import TrialDivergedError, TrialFailedError
from sweeper.spec import Config, Evaluation, Objective, SweepFolder
from sweeper.train import Job, reap

if TYPE_CHECKING:
    from sweeper.train.group import WorkerGroup

__all__ = ["measure"]

_LEAST_ROWS = 32
"""So many held-out rows are looked at after each step, or as many as a step trains on if those are more: a
third of the step's own cost at most."""
_TOLD_EVERY_STEPS = 20


def measure(config: Config, practice: float, folder: SweepFolder, person: TextIO) -> LrRange:
    """Train ``config`` for a moment, with a rate that rises from far below ``practice`` to far above it.

    Nothing stays of the model. The caller holds the folder's lock and sees to interrupts.

    Raises:
        UserError: data or model cannot be used.
        TrialFailedError: it cannot be trained, whatever the rate.
    """
    reap(folder.processes_dir)
    low, high = tried_range(practice)
    with ray_for(config, places=1), closing(_Test(_rising(config, low, high), folder, person)) as test:
        return test.to_the_end()


def _rising(config: Config, low: float, high: float) -> Config:
    """An exponential schedule whose end lies above its start, which no space file can ask for.

    Only ``eval/loss`` is measured, after every step: nobody's own metric, and no generated answers.
    """
    changes = {"lr": low, "scheduler": "exponential", "final_lr_ratio": high / low, "warmup_ratio": 0.0}
    return config.model_copy(
        update={
            "training": config.training.model_copy(update=changes),
            "objective": Objective(evaluations=1000),  # more than there are steps: one after each
            "evaluation": Evaluation(),
        }
    )


class _Test:
    """The run, begun again where its processes are lost."""

    def __init__(self, config: Config, folder: SweepFolder, person: TextIO) -> None:
        cache_dir = folder.cache_dir.absolute()
        self._job = Job(
            config=config,
            cache_dir=cache_dir,
            data_dir=prepared_folder(config, cache_dir),
            log_file=(folder.logs_dir / "lr-range.log").absolute(),
            evaluate_untrained=True,
            steps=STEPS,
            held_out_rows=max(config.training.global_batch_size, _LEAST_ROWS),
            processes=folder.processes_dir.absolute(),
        )
        self._console = Console(file=person, highlight=False)
        self._group: WorkerGroup | None = None
        columns = (
            TextColumn("lr range test"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        self._bar = ProgressBar(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("starting the workers", total=STEPS)

    def to_the_end(self) -> LrRange:
        with self._bar:
            while True:
                try:
                    return self._measured()
                except TrialFailedError as error:
                    self.close()
                    self._job, setback = recover(self._job, error)
                    self._say(setback.reason)

    def close(self) -> None:
        if self._group is not None:
            self._group.shut_down()
            self._group = None

    def _measured(self) -> LrRange:
        from sweeper.train.group import WorkerGroup

        group = self._group = WorkerGroup(self._job.config, None)
        group.prepare(self._job)
        untrained = group.advance().metrics["eval/loss"]
        lrs: list[float] = []
        losses: list[float] = []
        while len(lrs) < STEPS and not is_lost(losses, untrained):
            try:
                progress = group.advance()
            except TrialDivergedError:  # a result: the rates above need not be tried
                lrs.append(self._lr(len(lrs)))
                losses.append(float("nan"))
                break
            lrs += [step.lr for step in progress.steps]
            losses += [progress.metrics["eval/loss"]] * len(progress.steps)
            self._show(lrs, losses)
        return read_range(lrs, losses, untrained=untrained)

    def _lr(self, step: int) -> float:
        training = self._job.config.training
        return float(training.lr * training.final_lr_ratio ** (step / STEPS))

    def _show(self, lrs: Sequence[float], losses: Sequence[float]) -> None:
        shown = f"lr {lrs[-1]:.1e}, held-out loss {losses[-1]:.4f}"
        self._bar.update(self._task, completed=len(lrs), description=shown)
        if not self._console.is_terminal and len(lrs) % _TOLD_EVERY_STEPS == 0:
            self._say(f"step {len(lrs)}/{STEPS}: {shown}")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
