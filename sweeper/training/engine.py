"""The protocol between a sweep and one trial: prepare, advance to the next evaluation, checkpoint, stop.

A trial is anything that trains one closed configuration and can be paused at its evaluations. The
DeepSpeed trainer of this package implements it over a group of rank processes; a launcher of
somebody else's command line can implement it as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sweeper.remote import Files
from sweeper.space import Config
from sweeper.training.best import BestEvaluation

__all__ = ["STARTUP", "Engine", "Job", "Prepared", "Probed", "Progress", "StepMetrics", "StepTime"]

STARTUP = "perf/startup_s"
"""From the end of the last trial in a process, or its start, to the first optimizer step of this one."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one trial is given."""

    config: Config
    cache_dir: Path
    """Shared by all trials of a sweep, and in its folder: converted models."""
    data_dir: Path
    """The tokenized data, which every trial maps; the first trial makes it."""
    log_file: Path
    """Everything that the trial's processes print is appended here."""
    evaluate_untrained: bool = False
    """Evaluate once before the first step, at 0 tokens."""
    working_dir: Path = field(default_factory=Path.cwd)
    """Where the command was given: relative paths of the configuration start there, and modules with metrics
    of the user's own are looked for there first."""
    resume_from: Path | None = None
    """A folder that ``Engine.checkpoint`` wrote for the same configuration: go on from there."""
    checkpoints: Path | None = None
    """Where the trial's states go; None writes none."""
    fork_from: Path | None = None
    """A state of another trial that is this one's to the last bit: go on from there, where there is none of
    its own."""
    leave_at: tuple[int, ...] = ()
    """After these optimizer steps, leave a state for other trials."""
    left_states: Path | None = None
    """Where those go."""
    model_folder: Path | None = None
    """Where the trained model goes, if it is one to keep."""
    processes: Path | None = None
    """Where the trial's processes name themselves, to be found when nobody is left who started them."""
    progress_file: Path | None = None
    """Where the trial says how far it is, between its evaluations; removed when it has come to a stop."""
    stop_file: Path | None = None
    """While there is such a file, ``advance`` pauses soon."""
    retries: int = 0
    """How often the trial was begun again after its processes were lost."""
    steps: int | None = None
    """Train so many optimizer steps, whatever the configuration says of epochs; the rows repeat where they
    are fewer. None: as many as the epochs have."""
    held_out_rows: int | None = None
    """Evaluate on so many held-out rows at most, evenly spread over all of them. None: on each."""
    pause_file: Path | None = None
    """While it is there, this trial is to write its state and to pause, before it trains on."""
    best_so_far: float | None = None
    """What a model has to beat to be kept: the best final objective of the trials before, or the last one of
    several best trials whose models are kept."""
    files: Files | None = None
    """Through what the trial's files go from node to node, where nodes do not share the sweep's folder."""

    def pause_is_wanted(self) -> bool:
        """Whether somebody has made the stop file."""
        return self.stop_file is not None and self.stop_file.exists()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is known of a trial before its first step."""

    total_steps: int
    """Optimizer steps."""
    total_tokens: int
    """Real (non-padding) training tokens."""
    ds_config: dict[str, Any]
    """The DeepSpeed configuration exactly as used."""
    data_notes: tuple[str, ...] = ()
    """What became of the rows, in sentences for a person."""
    model_notes: tuple[str, ...] = ()
    """What was found out about the model when it was loaded."""
    not_forked: str = ""
    """Why the state of another trial was not taken up: the trial begins at its start then."""
    idle_memory_gib: float = 0.0
    """What ``perf/peak_memory_gib`` counts that is not the trial's: the process before it had a model."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """One optimizer step."""

    step: int
    tokens: int
    """Real training tokens seen up to and including this step."""
    loss: float
    """Mean negative log-likelihood per completion token of the global batch, nats."""
    lr: float
    grad_norm: float | None
    time_s: float
    """When it ended, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What happened up to an evaluation, or to a pause before it."""

    step: int
    tokens: int
    seconds: float
    """Since the trial began, evaluation included."""
    metrics: dict[str, float]
    """``eval/...`` and ``perf/...``; nothing where it paused, or ended without another evaluation."""
    steps: tuple[StepMetrics, ...] = ()
    paused: bool = False
    """Somebody asked for it: no evaluation was reached."""
    done: bool = False
    """It was the last one; without metrics, that the one before it was."""
    best: BestEvaluation | None = None
    """The best evaluation so far, this one included, by ``objective``; None before one that is a number."""
    warnings: tuple[str, ...] = ()
    """What went wrong beside the training."""
    time_s: float = field(default_factory=time.time)
    """When this was said, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """One optimizer step, on the rank that answers."""

    tokens: int
    """Real tokens of all ranks."""
    seconds: float
    """Until all ranks had moved their weights."""
    passes_s: tuple[float, ...]
    """Each forward and backward pass; the last one with the optimizer's work. In a pipeline, where
    passes overlap, only their sum means something."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A few optimizer steps of one configuration."""

    steps: tuple[StepTime, ...]
    """Those after the warm-up."""
    passes: tuple[tuple[tuple[int, int], ...], ...]
    """[optimizer step, the warm-up included][pass]: tokens and completion tokens, of the rank with most."""
    held_out: tuple[int, int]
    """The same of the largest pass of an evaluation."""
    evaluated_tokens_per_s: float
    """Of all ranks, evaluating."""
    startup_s: float
    """From the call to the first optimizer step, in a process that was there."""
    idle_gib: float
    """What the process held before it had a model."""
    peak_gib: float
    """The highest of all ranks, the idle process included."""


class Engine(Protocol):
    """One trial at a time; calls come from one thread. After ``stop`` it can prepare the next.

    ``prepare`` raises UserError for what the user must mend; ``advance`` raises
    TrialDivergedError when the numbers are lost, TrialFailedError when the trial cannot go on, and
    UserError when a metric of the user's own fails.
    """

    def prepare(self, job: Job) -> Prepared:
        """Get ready for the first step of a trial."""

    def advance(self) -> Progress:
        """Train to the next evaluation, evaluate, and say what came out."""

    def checkpoint(self, folder: Path) -> None:
        """Write the whole training state into a new folder, whole or not at all."""

    def restore(self, folder: Path) -> None:
        """Go back to a state of the same run that ``checkpoint`` wrote."""

    def save_model(self, folder: Path, merge: bool = False) -> None:
        """Write the model as a folder that ``from_pretrained`` loads; adapters by themselves, or merged
        into the model's own weights."""

    def stop(self) -> None:
        """Give up the trial's memory; the processes stay warm."""
