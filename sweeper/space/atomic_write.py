"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from sweeper.errors import UserError

__all__ = ["unwritable", "write_named", "write_whole"]


def write_whole(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Replace a file in one step; text is written as UTF-8; its folder is made when it is missing.

    A ``private`` file can be read by its owner only, and could at no moment by anybody else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


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
