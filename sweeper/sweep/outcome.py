"""What one step of a trial came to."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.errors import UserError
from sweeper.sweep.recovery import TrialRestart
from sweeper.training.engine import Prepared, Progress

__all__ = ["Outcome"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step of a trial came to: progress, or why there is none."""

    number: int
    prepared: Prepared | None = None
    """With the first outcome of a trial, and of each beginning anew."""
    progress: Progress | None = None
    setback: TrialRestart | None = None
    """The trial lost its processes and goes on."""
    paused: bool = False
    """The trial was told to pause, and has written its state."""
    warning: str | None = None
    """What went wrong beside the training, such as a state that found no room on the disk."""
    failure: str | None = None
    diverged: bool = False
    """Whether the failure is the configuration's own: the sampler learns from it."""
    problem: UserError | None = None
    """Something that the user must mend: it would meet every other trial as well."""
