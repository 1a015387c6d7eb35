"""Why a command has no result, in words that help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import SweeperError, TrialFailedError, TrialLostError, TrialOutOfMemoryError, UserError
from sweeper.space import Engine
from sweeper.training.ranks.failures import last_lines, ran_out_of_memory

__all__ = ["Ending", "error_of", "silence"]

_TAIL_BYTES, _TAIL_LINES = 50_000, 80
_NOT_STARTED, _SIGNALS, _SIGKILL = 127, 128, 9
_KILLED = re.compile(
    r"exitcode\s*:\s*-9\b|return code\s*=\s*-9\b|Signal 9\b|SIGKILL|died with <Signals\.SIGKILL", re.I
)
"""What launchers say of a rank that somebody has killed."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ended, or did not."""

    status: int | None
    """As a shell has it."""
    log_file: Path
    logged_before: int
    """Bytes of the log that are of another command."""
    metric: str
    """That a trial is judged by."""
    seen: tuple[str, ...]
    """The metrics that were read."""
    is_limited: bool
    kernel_killed: bool
    """Whether the kernel has killed a process of this machine for memory meanwhile."""

    @property
    def tail(self) -> str:
        """More of its last lines: a launcher has words of its own after those of a rank."""
        with self.log_file.open("rb") as file:
            file.seek(max(self.logged_before, file.seek(0, 2) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    @property
    def words(self) -> str:
        """The last lines of its output."""
        said = last_lines(self.log_file, 0, after=self.logged_before)
        return f"; its output ends with: {said}" if said else "; it printed nothing"


def error_of(engine: Engine, ending: Ending) -> SweeperError:
    """Of a command that ended without a result, or with a status that is not 0."""
    status, said = ending.status or 0, ending.words
    if status == 0:
        return _no_result(engine, ending)
    if status == _NOT_STARTED:
        return _user_error("engine.command", engine.program, f"cannot be started{said}", "check its path")
    by_kernel = ending.kernel_killed and status == _SIGNALS + _SIGKILL
    tail = ending.tail
    if by_kernel or ran_out_of_memory(tail, limited=ending.is_limited):
        return TrialOutOfMemoryError(f"the command ended with status {status}{said}")
    if status == _SIGNALS + _SIGKILL or _KILLED.search(tail):
        return TrialLostError(f"the command was killed (status {status}){said}")
    if status > _SIGNALS:
        return TrialLostError(f"the command was ended by signal {status - _SIGNALS}{said}")
    return TrialFailedError(f"the command ended with status {status}{said}")


def silence(engine: Engine, ending: Ending) -> TrialLostError:
    """Of a command that nothing was heard of."""
    said = ending.words
    return TrialLostError(
        f"the command has printed nothing and measured nothing for {engine.silent_after} "
        f"(engine.silent_after), and was ended{said}"
    )


def _no_result(engine: Engine, ending: Ending) -> UserError:
    metrics = engine.metrics
    found = f"it has {', '.join(ending.seen)}" if ending.seen else "nothing was found there"
    rule = (
        f"the command ended with status 0 and without a result: {ending.metric} is not in {metrics.kind} "
        f"{metrics.place}, {found}{ending.words}"
    )
    remedy = f"write names: {{{ending.metric}: THEIR NAME}} under engine.metrics"
    if not ending.seen:
        remedy = "have the trainer evaluate and write there, or name the place where it does"
    if metrics.kind == "hf" and not ending.seen:
        remedy = "have it evaluate (eval_strategy) and write states as often (save_strategy, save_steps)"
    return _user_error("engine.metrics", metrics.place, rule, remedy)


def _user_error(where: str, value: str, rule: str, remedy: str) -> UserError:
    return UserError.of(where=where, value=value, rule=rule, remedy=remedy)
