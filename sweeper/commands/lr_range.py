"""The LR range test: one short run of rising learning rate, for `sweeper lr-range` and before a sweep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from sweeper.autotune import (
    STEPS,
    LrRange,
    is_lost,
    known_tunings,
    lr_picture,
    lr_span,
    read_range,
    settled,
    suggested,
    tried_range,
    tuned,
)
from sweeper.commands.preparation import preparing
from sweeper.data import gather_facts
from sweeper.errors import SweepInterruptedError, TrialDivergedError, TrialFailedError
from sweeper.ray_tune.cluster import ray_for
from sweeper.ray_tune.probing import new_group
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.log_redirect import quiet
from sweeper.screen.screen import Screen, Verbosity
from sweeper.space import (
    TRUSTED,
    Config,
    Evaluation,
    LogUniform,
    Objective,
    Space,
    SweepFolder,
    load_space,
    require_hardware,
    require_own_trainer,
    rule_of_thumb_lr,
    secrets_of,
    write_whole,
)
from sweeper.sweep.lock import locked, usable
from sweeper.sweep.recovery import recover
from sweeper.training import Job, reap

if TYPE_CHECKING:
    from sweeper.training.ranks.group import WorkerGroup

__all__ = ["LrRangeResult", "find_lr_range", "with_tested_range"]

_LEAST_ROWS = 32
"""So many held-out rows are looked at after each step, or as many as a step trains on if those are more: a
third of the step's own cost at most."""
_TOLD_EVERY_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class LrRangeResult:
    """A finished test."""

    found: LrRange
    asked: tuple[float, float]
    """The lowest and the highest lr that the file has; equal where it has one only."""
    folder: SweepFolder
    """Where its picture and its numbers are."""

    def to_dict(self) -> dict[str, Any]:
        """What ``sweeper lr-range --json`` prints: ``{"finding", "useful": {"low", "high"}, "fastest",
        "lost_from", "untrained", "asked", "picture", "numbers"}``; ``useful`` and ``fastest`` are null where
        the loss never fell, ``lost_from`` where it was never lost."""
        found = self.found
        useful = None if found.bracket is None else suggested(found.bracket)
        return {
            "finding": found.finding,
            "useful": None if useful is None else {"low": useful.low, "high": useful.high},
            "fastest": None if found.bracket is None else found.bracket.steepest,
            "lost_from": found.diverged_at,
            "untrained": found.untrained,
            "asked": list(self.asked),
            "picture": str(self.folder.lr_range_picture),
            "numbers": str(self.folder.lr_range_file),
        }


def find_lr_range(
    space_file: Path,
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    verbosity: Verbosity = Verbosity.NORMAL,
) -> LrRangeResult:
    """Test which learning rates are of use for a file, open or closed.

    What is open has its default in the test. The folder (default: the sweep's own name with -lr-range)
    may hold an earlier test, which is replaced.

    Raises:
        UserError: the file, the model, the data or the folder need mending.
        TrialFailedError: it cannot be trained, whatever the rate.
        SweepInterruptedError: nothing of the test is kept.
    """
    space = load_space(space_file, overrides=overrides, gather=gather_facts)
    require_own_trainer(space, "an LR range test")
    require_hardware(space)
    folder = SweepFolder(out or space.sweep_dir.with_name(f"{space.sweep_dir.name}-lr-range"))
    return LrRangeResult(found=_tested(space, folder, verbosity), asked=_asked(space), folder=folder)


def with_tested_range(space: Space, folder: SweepFolder, verbosity: Verbosity) -> Space:
    """The space with the range of lr that the test which it asks for has found, or narrowed.

    Raises what find_lr_range does.
    """
    lr, wish = space.dimension("lr"), space.range_test
    assert lr is not None and wish is not None and isinstance(lr.open_value, LogUniform)
    found = _tested(space, folder, verbosity)
    chosen, said = settled(lr.open_value, found, within=wish.within is not None)
    Console(highlight=False).print(f"LR range test: {said}", soft_wrap=True, markup=False)
    return space.with_lr_range(chosen)


def _tested(space: Space, folder: SweepFolder, verbosity: Verbosity) -> LrRange:
    with usable(folder):
        folder.root.mkdir(parents=True, exist_ok=True)
    secrets = secrets_of(space.settings).values()
    with locked(folder), quiet(folder.driver_log, *secrets, verbosity=verbosity) as screen:
        if space.settings.trust_remote_code:
            screen.say(TRUSTED, warning=True)
        try:
            found = _measured(space, folder, screen)
        except KeyboardInterrupt as interrupt:
            told = "interrupted in the LR range test, of which nothing is kept: give the same command again"
            raise SweepInterruptedError(told) from interrupt
        with usable(folder):
            _write(space, found, folder)
        return found


def _asked(space: Space) -> tuple[float, float]:
    lr = space.dimension("lr")
    return lr_span(space.closed["training.lr"] if lr is None else lr.open_value)


def _write(space: Space, found: LrRange, folder: SweepFolder) -> None:
    asked = _asked(space)
    numbers = {"name": space.name, "asked": asked, **asdict(found)}
    numbers["losses"] = [loss if math.isfinite(loss) else None for loss in found.losses]
    write_whole(folder.lr_range_file, json.dumps(numbers, indent=2, allow_nan=False) + "\n")
    by_rule = space.range_test is not None and space.range_test.within is None
    whose = "range of lr: auto" if by_rule else "lr in the file"
    write_whole(folder.lr_range_picture, lr_picture(found, name=space.name, asked=asked, whose=whose))


def _measured(space: Space, folder: SweepFolder, screen: Screen) -> LrRange:
    """Train for a moment, with a rate that rises from far below the rule of thumb to far above it.

    Nothing stays of the model.
    """
    reap(folder.processes_dir)
    config = tuned(space.close(space.default_values()), known_tunings(space), space.measured)
    facts, lora = space.facts, bool(config.training.lora)
    low, high = tried_range(rule_of_thumb_lr(facts.hidden_size, lora=lora, model_type=facts.model_type))
    screen.say(f"LR range test: {STEPS} steps, lr from {low:.1e} to {high:.1e}")
    with Interrupts() as interrupts, preparing(config, folder.cache_dir.absolute()) as preparation:
        test = _Test(_rising(config, low, high), folder, preparation.folder(), screen)
        with ray_for(config, places=1, say=screen.say), closing(test):
            interrupts.ask_first(None)  # Ray has put a handler of its own in between
            preparation.check()
            return test.to_the_end()


def _rising(config: Config, low: float, high: float) -> Config:
    """An exponential schedule whose end lies above its start, which no space file can ask for.

    Only ``eval/loss`` is measured, after every step: nobody's own metric, and no generated answers.
    """
    changes = {"lr": low, "scheduler": "exponential", "final_lr_ratio": high / low}
    changes |= {"warmup_ratio": 0.0, "warmup_steps": None}
    return config.model_copy(
        update={
            "training": config.training.model_copy(update=changes),
            "objective": Objective(evaluations=1000),  # more than there are steps: one after each
            "evaluation": Evaluation(),
        }
    )


class _Test:
    """The run, begun again where its processes are lost."""

    def __init__(self, config: Config, folder: SweepFolder, data_dir: Path, screen: Screen) -> None:
        self._job = Job(
            config=config,
            cache_dir=folder.cache_dir.absolute(),
            data_dir=data_dir,
            log_file=(folder.logs_dir / "lr-range.log").absolute(),
            evaluate_untrained=True,
            steps=STEPS,
            held_out_rows=max(config.training.global_batch_size, _LEAST_ROWS),
            processes=folder.processes_dir.absolute(),
        )
        self._screen = screen
        self._group: WorkerGroup | None = None
        columns = (
            TextColumn("lr range test"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        self._bar = ProgressBar(*columns, console=screen.console, disable=not screen.has_panel)
        self._task = self._bar.add_task("starting the workers", total=STEPS)

    def to_the_end(self) -> LrRange:
        with self._bar:
            while (found := self._attempt()) is None:
                pass
            return found

    def _attempt(self) -> LrRange | None:
        """None where the processes were lost, or too large: the job is another one then."""
        try:
            return self._measured()
        except TrialFailedError as error:
            self.close()
            self._job, setback = recover(self._job, error)
            self._screen.say(setback.reason, warning=True)
            return None

    def close(self) -> None:
        if self._group is not None:
            self._group.shut_down()
            self._group = None

    def _measured(self) -> LrRange:
        group = self._group = new_group(self._job.config, self._screen.say)
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
        if not self._screen.has_panel and len(lrs) % _TOLD_EVERY_STEPS == 0:
            self._screen.say(f"step {len(lrs)}/{STEPS}: {shown}")
