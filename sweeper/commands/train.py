"""``sweeper train``: one configuration, in full, to a model folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from sweeper.autotune import known_tunings, tuned
from sweeper.commands.preparation import in_lines, preparing
from sweeper.commands.run import given_space
from sweeper.commands.train_engine import train_with_engine
from sweeper.data import gather_facts
from sweeper.engines import require_program
from sweeper.errors import (
    CheckpointError,
    SweepFolderError,
    SweepInterruptedError,
    TrialDivergedError,
    TrialFailedError,
    UserError,
)
from sweeper.ray_tune.cluster import ray_for
from sweeper.ray_tune.probing import new_group
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.log_redirect import quiet
from sweeper.screen.screen import Screen, Verbosity
from sweeper.space import (
    TRUSTED,
    Config,
    Space,
    SweepFolder,
    load_space,
    mark_format,
    require_closed,
    require_hardware,
    require_metrics,
)
from sweeper.sweep.lock import locked
from sweeper.sweep.recovery import recover
from sweeper.training import (
    CheckpointRetention,
    Job,
    Moved,
    Progress,
    discard,
    newest_checkpoint,
    read_moved,
    reap,
)

if TYPE_CHECKING:
    from sweeper.training.ranks.group import WorkerGroup

__all__ = ["TrainResult", "train_config"]

_SILENCE_S = 60.0
"""Where there is no bar, so much time passes before a line says how far the training is."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A trained model."""

    folder: Path
    """``AutoModelForCausalLM.from_pretrained`` loads it."""
    metrics: dict[str, float]
    """Of the saved model: those of the last evaluation, or with ``objective.at: best`` of the best one."""
    tokens: int
    """Training tokens that the saved model has seen."""
    tokens_trained: int
    """Training tokens of the whole run."""
    untrained: dict[str, float] | None
    """Of the evaluation before the first step; None where the run went on from a state."""
    objective: str
    """The metric that the sweep compared by."""
    promised: float | None
    """The objective that the best-config's sweep reached with this configuration."""

    def to_dict(self) -> dict[str, Any]:
        """What ``sweeper train --json`` prints: its fields under their names."""
        return {**vars(self), "folder": str(self.folder)}


def train_config(
    config: Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    output_dir: Path | str | None = None,
    merge_adapter: bool = False,
    verbosity: Verbosity = Verbosity.NORMAL,
) -> TrainResult:
    """Train a closed configuration and save the model to ``output_dir`` (default: ``models/<name>``).

    ``merge_adapter`` saves a plain model with the LoRA adapters merged into it.

    Raises UserError when something is open, there is no adapter to merge, or the folder is in the way.
    """
    closed = _closed(load_space(given_space(config), overrides=overrides, gather=gather_facts), merge_adapter)
    target = _output_folder(None if output_dir is None else Path(output_dir), closed.name)
    scratch = SweepFolder(target.with_name(f"{target.name}-train"))
    scratch.stop_file.unlink(missing_ok=True)
    with (
        locked(scratch),
        quiet(scratch.driver_log, verbosity=verbosity) as screen,
        Interrupts() as interrupts,
    ):
        mark_format(scratch)
        try:
            if closed.engine is not None:
                evaluations = _by_engine(closed, scratch, target, screen, interrupts)
            else:
                evaluations = _by_us(closed, scratch, target, merge_adapter, screen, interrupts)
        except KeyboardInterrupt as interrupt:
            told = "interrupted; the same command goes on from the last state"
            told += ", where the trainer has left one" if closed.engine is not None else ""
            raise SweepInterruptedError(told) from interrupt
    return _result(closed, target, evaluations)


def _closed(space: Space, merge_adapter: bool) -> Config:
    """The configuration to train, with what was measured for it. Raises UserError where it cannot be."""
    require_closed(space)
    require_hardware(space)
    require_metrics(space)
    require_program(space)
    closed = tuned(space.close({}), known_tunings(space), space.measured)
    if merge_adapter and not closed.training.lora:
        raise UserError.of(
            where="--merge-adapter",
            value="",
            rule=f"{space.source} trains the whole model, so there is no adapter to merge",
            remedy="leave the option out, or give training.lora",
        )
    return closed


def _by_us(
    config: Config,
    scratch: SweepFolder,
    target: Path,
    merge_adapter: bool,
    screen: Screen,
    interrupts: Interrupts,
) -> Sequence[Progress]:
    with preparing(config, scratch.cache_dir, in_lines(screen.say)) as preparation:
        if config.trust_remote_code:
            screen.say(TRUSTED, warning=True)
        data_dir = preparation.folder()
        if told := _other_rows(config, data_dir.name):
            screen.say(told, warning=True)
        run = _Run(config, scratch, data_dir, screen)
        with ray_for(config, places=1, say=screen.say, folder=scratch.root), closing(run):
            preparation.check()
            interrupts.ask_first(scratch.stop_file.touch)
            run.to_the_end()
            interrupts.ask_first(None)
            run.save_model(target, merge_adapter)
    return run.evaluations


def _by_engine(
    config: Config, scratch: SweepFolder, target: Path, screen: Screen, interrupts: Interrupts
) -> Sequence[Progress]:
    engine, evaluations = train_with_engine(config, scratch, screen, interrupts)
    if target.exists():
        target.rmdir()  # it is empty
    engine.save_model(target)
    discard(scratch.root / "checkpoints", inside=scratch.root)
    return evaluations


def _result(closed: Config, target: Path, evaluations: Sequence[Progress]) -> TrainResult:
    value = (closed.provenance or {}).get("value")
    first, last = evaluations[0], evaluations[-1]
    saved = last.best if closed.objective.at == "best" and last.best is not None else last
    return TrainResult(
        folder=target,
        metrics=dict(saved.metrics),
        tokens=saved.tokens,
        tokens_trained=last.tokens,
        untrained=first.metrics if first.tokens == 0 else None,
        objective=closed.objective.metric,
        promised=value,
    )


def _other_rows(config: Config, fingerprint: str) -> str | None:
    """What to say where a best-config's sweep may have had other rows than those that are trained on now."""
    fingerprints = (config.provenance or {}).get("fingerprints")
    swept = fingerprints.get("data") if isinstance(fingerprints, dict) else None
    if swept in (None, fingerprint):
        return None
    return (
        "warning: the value that this configuration reached in its sweep may not be reached again: the data, "
        "the tokenizer, a setting of the rows, or the version of sweeper or transformers is another now"
    )


def _output_folder(output_dir: Path | None, name: str) -> Path:
    """Raises SweepFolderError where something is in the way."""
    target = (output_dir or Path("models") / name).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SweepFolderError.of(
            where=str(output_dir or target),
            value="",
            rule="the output folder is in the way",
            remedy="give a new folder with --output-dir",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


class _Run:
    """One training, begun again where its processes are lost.

    One that was interrupted goes on from its last state.
    """

    def __init__(self, config: Config, scratch: SweepFolder, data_dir: Path, screen: Screen) -> None:
        states = scratch.root / "checkpoints"
        reap(scratch.processes_dir)
        progress_file = scratch.logs_dir / "progress.json"
        progress_file.unlink(missing_ok=True)  # of an earlier run
        self._screen = screen
        self._job = Job(
            config=config,
            cache_dir=scratch.cache_dir,
            data_dir=data_dir,
            log_file=scratch.logs_dir / "train.log",
            evaluate_untrained=True,
            resume_from=newest_checkpoint(states),
            checkpoints=states,
            processes=scratch.processes_dir,
            progress_file=progress_file,
            stop_file=scratch.stop_file,
        )
        self.evaluations: list[Progress] = []
        self._shown = dict.fromkeys(("eval/loss", config.objective.metric))
        self._group: WorkerGroup | None = None
        columns = (
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        self._bar = ProgressBar(
            *columns,
            console=screen.console,
            disable=not screen.has_panel,
            redirect_stdout=False,  # what libraries print belongs into the log
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", speed="")
        self._moved: Moved | None = None
        self._total_tokens, self._told_s = 0, time.monotonic()

    def to_the_end(self) -> None:
        """Raises KeyboardInterrupt after a pause, and what ends a trial."""
        with self._bar:
            while not self._is_done():
                self._go_on()

    def _is_done(self) -> bool:
        return bool(self.evaluations) and self.evaluations[-1].done

    def _go_on(self) -> None:
        try:
            self._train()
        except TrialDivergedError:
            raise
        except TrialFailedError as error:
            self.close()
            self._job, setback = recover(self._job, error)
            self._screen.say(setback.reason, warning=True)

    def save_model(self, target: Path, merge_adapter: bool) -> None:
        """Raises CheckpointError where it cannot be written, or the state of the best evaluation was not."""
        assert self._group is not None
        CheckpointRetention(self._job).go_to_judged(self._group, self.evaluations[-1])
        self._group.save_model(target, merge_adapter)
        if not self._job.config.checkpoints.keep_finished and self._job.checkpoints is not None:
            discard(self._job.checkpoints, inside=self._job.cache_dir.parent)

    def _train(self) -> None:
        job = self._job
        group = self._group = new_group(job.config, self._screen.say, pause_wanted=self._look)
        keeper, prepared = CheckpointRetention(job), group.prepare(job)
        for note in prepared.data_notes:
            self._screen.say(f"data: {note}")
        for note in prepared.model_notes:
            self._screen.say(f"model: {note}")
        if job.resume_from is not None:
            self._screen.say(f"going on from {job.resume_from.name}")
        self._total_tokens = prepared.total_tokens
        self._bar.update(self._task, total=self._total_tokens)
        progress = None
        while progress is None or not progress.done:
            progress = group.advance()
            if progress.tokens and not progress.done:
                self._keep_state(keeper, group, progress)
            if progress.paused:
                raise KeyboardInterrupt
            self.evaluations.append(progress)
            self._show(progress, prepared.total_steps)

    def _look(self) -> bool:
        """Called once a second while the ranks work: shows how far they are; whether they are to pause."""
        moved = None if self._job.progress_file is None else read_moved(self._job.progress_file)
        if moved is not None and moved != self._moved:
            self._moved = moved
            speed = f"{moved.tokens_per_s:,.0f} tokens/s"
            self._bar.update(self._task, completed=moved.tokens, speed=speed)
            if not self._screen.has_panel and time.monotonic() - self._told_s > _SILENCE_S:
                self._tell(f"{moved.tokens / max(self._total_tokens, 1):.0%}, {speed}")
        return self._job.pause_is_wanted()

    def _tell(self, line: str) -> None:
        self._told_s = time.monotonic()
        self._screen.say(line)

    def _keep_state(self, keeper: CheckpointRetention, group: WorkerGroup, progress: Progress) -> None:
        try:
            keeper.keep_state(group, progress)
        except CheckpointError as error:
            self._screen.say(f"warning: {error}", warning=True)

    def _show(self, progress: Progress, total_steps: int) -> None:
        shown = ", ".join(f"{name} {progress.metrics[name]:.4f}" for name in self._shown)
        self._bar.update(self._task, completed=progress.tokens, description=shown)
        if not self._screen.has_panel:
            self._tell(f"step {progress.step}/{total_steps}: {shown}")

    def close(self) -> None:
        if self._group is not None:
            self._group.shut_down()
            self._group = None
