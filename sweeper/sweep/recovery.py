"""What a trial does when its processes are gone: begin again from its last state, smaller where it must; and
what trials train with from then on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sweeper.autotune import PeakForecast, Tuning, tuned
from sweeper.errors import TrialFailedError, TrialLostError, TrialOutOfMemoryError
from sweeper.search import TrialRecord
from sweeper.space import (
    Config,
    Space,
    TooLarge,
    Values,
    fitted,
    next_memory_fallback,
    proxied,
    read_record,
    search_config,
    system_config_of,
)
from sweeper.training import Job, discard, newest_checkpoint

__all__ = ["SystemConfigs", "TrialRestart", "recover", "recover_lost", "retries_of"]

_HELP_ENGINE = (
    "what would help is for the trainer's own file to say, such as gradient checkpointing or ZeRO; with names"
    " for per_device_batch_size and gradient_accumulation_steps the batch is split otherwise by itself"
)
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


def recover_lost(record: TrialRecord, config: Config, log: Path) -> TrialRestart:
    """Of a trial whose actor is gone with its processes: it begins again, when it is asked for.

    Raises: TrialFailedError, with the reason for a person, where it has done so often enough.
    """
    limit = config.resources.max_retries
    if retries_of(record) >= limit:
        raise TrialFailedError(f"its processes died, after {limit} retries (see {log})")
    return TrialRestart(reason="its processes died", out_of_memory=False, config=config)


def retries_of(record: TrialRecord) -> int:
    """How often it has begun again, but for what did not fit into memory."""
    return sum(not one["out_of_memory"] for one in record.attributes.get("setbacks", []))


class SystemConfigs:
    """What the trials of a sweep train with: as measured, and lighter where that did not fit into memory."""

    def __init__(
        self,
        space: Space,
        data_dirs: Mapping[bool, Path],
        tunings: tuple[Tuning, ...],
        too_large: Iterable[Mapping[str, Any]],
    ) -> None:
        """``data_dirs`` are the rows, by whether they are those of the search's proxy; ``too_large`` is what
        ``add_too_large`` returned last, in an earlier driver."""
        self._space, self._tunings = space, tunings
        self._too_large = [read_record(TooLarge, one) for one in too_large]
        self._peaks = {
            on_proxy: PeakForecast(one.facts.sizes, data_dirs[on_proxy], tunings)
            for on_proxy, one in ((False, space), (True, proxied(space)))
        }

    def of_values(self, values: Values) -> Config:
        """What a trial of these values trains with that the search asks for."""
        return self.of(search_config(self._space, values))

    def of(self, asked: Config) -> Config:
        """What a trial of this configuration trains with."""
        return fitted(tuned(asked, self._tunings, self._space.measured), self._too_large)

    def add_too_large(self, config: Config) -> list[dict[str, Any]]:
        """This one did not fit. Returns all that did not, for the ledger."""
        self._too_large.append(TooLarge.of(config))
        return [asdict(one) for one in self._too_large]

    def predicted_gib(self, config: Config, *, on_proxy: bool) -> float | None:
        """The peak of a rank, without what it takes before it trains; None where nothing tells it."""
        memory = self._peaks[on_proxy].of(config)
        return None if memory is None else memory.total_gib


def _again(job: Job, error: TrialFailedError) -> tuple[Job, TrialRestart]:
    again = replace(job, retries=job.retries + 1, resume_from=_newest_state(job))
    what = "out of memory in processes that had trained before: " * isinstance(error, TrialOutOfMemoryError)
    limit = job.config.resources.max_retries
    reason = f"{what}{error}: retry {again.retries} of {limit}, {_whence(again)}"
    return again, TrialRestart(reason=reason, out_of_memory=False, config=job.config)


def _smaller(job: Job, error: TrialOutOfMemoryError) -> tuple[Job, TrialRestart]:
    config = next_memory_fallback(job.config)
    if config is None:
        held = asdict(system_config_of(job.config))
        held.pop("gradient_accumulation_steps")
        if (engine := job.config.engine) is not None:
            rows = f" at per_device_batch_size {held['per_device_batch_size']}" * engine.splits_batch
            raise TrialFailedError(f"out of memory{rows}: {error}; {_HELP_ENGINE}") from error
        raise TrialFailedError(f"out of memory at {_words(held)}: {error}; {_HELP}") from error
    before, after = (
        asdict(system_config_of(job.config)),
        asdict(system_config_of(config)),
    )
    changed = {name: value for name, value in after.items() if value != before[name]}
    if changed.keys() & {"zero_stage", "offload"} and job.checkpoints is not None:
        discard(job.checkpoints, inside=job.cache_dir.parent)  # DeepSpeed's states are of one stage
    # What other trials left or would take up was computed with the batch split otherwise.
    again = replace(job, config=config, resume_from=_newest_state(job), fork_from=None, leave_at=())
    reason = f"out of memory, now {_words(changed)}, {_whence(again)} ({error})"
    return again, TrialRestart(reason=reason, out_of_memory=True, config=config)


def _newest_state(job: Job) -> Path | None:
    return None if job.checkpoints is None else newest_checkpoint(job.checkpoints)


def _whence(job: Job) -> str:
    if job.config.engine is not None:
        return "from the trainer's last state" if job.config.engine.resume else "from its start"
    state = job.resume_from or job.fork_from
    return "from its start" if state is None else f"from {state.name}"


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {str(value).lower()}" for name, value in settings.items())
