"""Errors that a user can act on: what was found, the rule it breaks, and what to do about it.

Every error here survives pickling, because a trial's error crosses processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "CheckpointError",
    "DataError",
    "LedgerAwayError",
    "MissingDependencyError",
    "ModelError",
    "Problem",
    "SpaceFileError",
    "SweepFolderError",
    "SweepInterruptedError",
    "SweeperError",
    "TrialDivergedError",
    "TrialFailedError",
    "TrialLostError",
    "TrialOutOfMemoryError",
    "UserError",
    "first_line",
]


_VALUE_CHARACTERS, _TEXT_CHARACTERS = 200, 1000
_PROBLEM_LIMIT = 50
"""So many problems are printed; the rest is a number."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    where: str
    """The place: ``space.yaml:12:7``, ``train.jsonl:14``, a folder or an option."""
    value: str
    """What was found there, as it was written."""
    rule: str
    """The rule that it breaks, as a sentence without a full stop."""
    remedy: str
    """What to do, as an imperative without a full stop."""

    def __str__(self) -> str:
        value = _shown(self.value, _VALUE_CHARACTERS)
        found = f"{value}: " if value else ""
        where, rule, remedy = (_shown(one, _TEXT_CHARACTERS) for one in (self.where, self.rule, self.remedy))
        return f"{where}: {found}{rule}\n    -> {remedy}"


def first_line(error: BaseException) -> str:
    """What an error says first; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _shown(text: str, limit: int) -> str:
    """Fit for a terminal: no control characters, none that turn the text around, and not endless."""
    if len(text) > limit:
        half = (limit - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class SweeperError(Exception):
    """The root: everything that this package raises on purpose."""


class UserError(SweeperError):
    """Something the user can mend: the command prints it without a traceback and exits with 2."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        told = [str(problem) for problem in self.problems[:_PROBLEM_LIMIT]]
        more = len(self.problems) - len(told)
        return "\n".join([*told, *([f"and {more:,} more problems"] if more else [])])

    @classmethod
    def of(cls, *, where: str, value: object, rule: str, remedy: str) -> Self:
        """The error of a single problem."""
        return cls([Problem(where=where, value=str(value), rule=rule, remedy=remedy)])

    def redacted(self, redact: Callable[[str], str]) -> Self:
        """The same with every text passed through ``redact``."""
        texts = map(asdict, self.problems)
        return type(self)(Problem(**{name: redact(said) for name, said in one.items()}) for one in texts)


class SpaceFileError(UserError, ValueError):
    """The space file, or an override on the command line, does not say something that can be run."""


class DataError(UserError, ValueError):
    """The data cannot be read as rows with a prompt and a completion."""


class ModelError(UserError, ValueError):
    """The model, its tokenizer or its template cannot be used."""


class SweepFolderError(UserError, OSError):
    """The sweep's folder is in the way, missing, or not one."""


class LedgerAwayError(UserError, ConnectionError):
    """The ledger's database was there and does not answer any more; what was committed is kept."""


class MissingDependencyError(UserError, ImportError):
    """An optional part is asked for and not installed."""


class SweepInterruptedError(SweeperError):
    """Somebody ended the sweep early; the message says how to go on."""


class TrialFailedError(SweeperError, RuntimeError):
    """One trial cannot go on; the sweep can."""


class TrialDivergedError(TrialFailedError):
    """The loss or the gradient of a trial is no longer a number, or far beyond where it started."""


class TrialLostError(TrialFailedError):
    """A process of a trial died or no longer answers: nothing that its configuration is to blame for."""


class TrialOutOfMemoryError(TrialFailedError):
    """A rank needs more memory than there is."""


class CheckpointError(SweeperError, OSError):
    """A state or a model could not be written; the run itself can go on."""
