"""Files that a user has named: written whole, or an error of the user's."""

from __future__ import annotations

from pathlib import Path

from sweeper.errors import UserError
from sweeper.space import write_whole

__all__ = ["unwritable", "write_named"]


def write_named(path: Path, content: str, option: str) -> None:
    """Raises UserError where it cannot be written; ``option`` is what another file is named by."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise unwritable(path, error, f"name a file in a folder of yours by {option}") from error


def unwritable(path: Path, error: OSError, remedy: str) -> UserError:
    """That a file cannot be written, and why."""
    reason = error.strerror or error
    return UserError.of(where=str(path), value="", rule=f"cannot be written: {reason}", remedy=remedy)
