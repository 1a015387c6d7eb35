"""Which of the ranks' errors is the cause, and in whose words it is told."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweeper.errors import (
    SweeperError,
    TrialDivergedError,
    TrialFailedError,
    TrialLostError,
    TrialOutOfMemoryError,
    UserError,
)

__all__ = [
    "Failure",
    "is_out_of_memory",
    "last_lines",
    "log_size",
    "ran_out_of_memory",
    "rank_log",
    "root_cause",
    "translated_errors",
]

_LINES, _CHARACTERS = 4, 400
_PEER_GONE = re.compile(
    r"connection (closed|reset|refused)|broken pipe|timed? ?out|remote process", re.IGNORECASE
)
"""What collectives say when another rank is no longer there."""
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can.t allocate memory|cannot allocate memory|bad_alloc|CUBLAS_STATUS_ALLOC_FAILED"
    r"|can.t start new thread|MemoryError|mmap error: 12\b",
    re.I,
)
"""Of CUDA, of torch's CPU allocator, of the C++ library, of cuBLAS, of a process without memory for a stack,
and of Ray's own threads (abseil's low_level_alloc.cc: ENOMEM by its number)."""
_CRASH, _MODULES = "Fatal Python error", "Extension modules:"
"""Of faulthandler: what a process is ended with, and the long list after its frames."""


class Failure(NamedTuple):
    """How one rank's call ended."""

    error: SweeperError
    is_gone: bool = False
    """Its process, that is; else the rank itself has raised."""


def rank_log(log_file: Path, rank: int) -> Path:
    """Where a rank's output goes: rank 0 has the trial's log, the others have their own beside it."""
    return log_file if rank == 0 else log_file.with_name(f"{log_file.stem}-rank-{rank}{log_file.suffix}")


def log_size(log_file: Path, rank: int) -> int:
    """Bytes that a rank has printed so far."""
    log = rank_log(log_file, rank)
    return log.stat().st_size if log.is_file() else 0


def last_lines(log_file: Path, rank: int, *, after: int = 0) -> str:
    """The end of what a rank printed, in one line; ``after``: not what was there when the log had so many
    bytes, which is of the processes before it."""
    try:
        with rank_log(log_file, rank).open("rb") as file:
            file.seek(max(after, file.seek(0, 2) - 10_000))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_MODULES)]
    crash = "".join(f"{line} | " for line in lines[:-_LINES] if line.startswith(_CRASH))[:_CHARACTERS]
    return crash + " | ".join(lines[-_LINES:])[-_CHARACTERS:]


@contextmanager
def translated_errors() -> Iterator[None]:
    """In a rank: what others raise becomes this package's, so that it crosses processes and says what it is.

    No traceback goes with it: its frames would hold on to the memory that has run out.
    """
    from sweeper.training.memory import limit_memory

    try:
        yield
        return
    except SweeperError:
        raise
    except Exception as error:
        said = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        if is_out_of_memory(error):
            limit_memory(None)  # the way out needs some as well
            ours: TrialFailedError = TrialOutOfMemoryError(said)
        elif isinstance(error, RuntimeError) and _PEER_GONE.search(str(error)):
            ours = TrialLostError(said)
        else:
            raise
    raise ours


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory, of the device or of the host."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, SystemError):  # Python's own code could not even make its MemoryError
        return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ran_out_of_memory(str(error))
    )


def ran_out_of_memory(said: str, *, limited: bool = False) -> bool:
    """Whether these are the last words of a process without memory; ``limited``: it had a limit of memory on
    a CPU, where native code that does not look at what malloc gives it crashes."""
    return bool(_OUT_OF_MEMORY.search(said)) or (limited and _CRASH in said)


def root_cause(failures: Sequence[Failure]) -> SweeperError:
    """Of what several ranks ended with, what the others followed from.

    What the user must mend comes first, then memory, then a process that is gone, then lost numbers: a
    rank whose neighbour is gone only knows that it is.
    """
    return min(failures, key=lambda one: (_order(one.error), not one.is_gone)).error


def _order(error: Exception) -> int:
    kinds = (UserError, TrialOutOfMemoryError, TrialLostError, TrialDivergedError)
    return next((place for place, kind in enumerate(kinds) if isinstance(error, kind)), len(kinds))
