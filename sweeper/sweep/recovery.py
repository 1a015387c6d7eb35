"""What a trial does when its processes are gone: begin again from its last state, smaller where it must."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import TrialFailedError, TrialLostError, TrialOutOfMemoryError
from sweeper.space import Config, next_memory_fallback, system_config_of
from sweeper.train import Job, discard, newest_checkpoint

__all__ = ["TrialRestart", "recover"]

_HELP = (
    "what would help: a shorter max_seq_len, lora, more ranks that share the model (dp with zero_stage: 3)"
)


@dataclass(frozen=True, kw_only=True)
class TrialRestart:
    """A trial was thrown back, and goes on."""

    reason: str
    out_of_memory: bool
    """Whether the configuration was too large, and not only unlucky."""
    config: Config
    """What it goes on with."""


def recover(job: Job, error: TrialFailedError, *, has_run_before: bool = False) -> tuple[Job, TrialRestart]:
    """The job that goes on where this one's processes ended, from its newest state.

    Args:
        has_run_before: those processes had trained before. What does not fit into them may fit into new
            ones, and what ran earlier is no reason to train otherwise.

    Raises: TrialFailedError, with the reason for a person, where the trial has to end.
    """
    limit = job.config.resources.max_retries
    if isinstance(error, TrialOutOfMemoryError):
        return _again(job, error) if has_run_before and job.retries < limit else _smaller(job, error)
    if not isinstance(error, TrialLostError) or job.retries >= limit:
        tried = f" (after {job.retries} of {limit} retries)" if isinstance(error, TrialLostError) else ""
        raise TrialFailedError(f"{error}{tried}") from error
    return _again(job, error)


def _again(job: Job, error: TrialFailedError) -> tuple[Job, TrialRestart]:
    again = dataclasses.replace(job, retries=job.retries + 1, resume_from=_newest_state(job))
    what = "out of memory in processes that had trained before: " * isinstance(error, TrialOutOfMemoryError)
    limit = job.config.resources.max_retries
    reason = f"{what}{error}: retry {again.retries} of {limit}, {_whence(again)}"
    return again, TrialRestart(reason=reason, out_of_memory=False, config=job.config)


def _smaller(job: Job, error: TrialOutOfMemoryError) -> tuple[Job, TrialRestart]:
    config = next_memory_fallback(job.config)
    if config is None:
        held = dataclasses.asdict(system_config_of(job.config))
        held.pop("gradient_accumulation_steps")
        raise TrialFailedError(f"out of memory at {_words(held)}: {error}; {_HELP}") from error
    before, after = (
        dataclasses.asdict(system_config_of(job.config)),
        dataclasses.asdict(system_config_of(config)),
    )
    changed = {name: value for name, value in after.items() if value != before[name]}
    if changed.keys() & {"zero_stage", "offload"} and job.checkpoints is not None:
        discard(job.checkpoints, inside=job.cache_dir.parent)  # DeepSpeed's states are of one stage
    # What other trials left or would take up was computed with the batch split otherwise.
    again = dataclasses.replace(
        job, config=config, resume_from=_newest_state(job), fork_from=None, leave_at=()
    )
    reason = f"out of memory, now {_words(changed)}, {_whence(again)} ({error})"
    return again, TrialRestart(reason=reason, out_of_memory=True, config=config)


def _newest_state(job: Job) -> Path | None:
    return None if job.checkpoints is None else newest_checkpoint(job.checkpoints)


def _whence(job: Job) -> str:
    state = job.resume_from or job.fork_from
    return "from its start" if state is None else f"from {state.name}"


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {str(value).lower()}" for name, value in settings.items())
