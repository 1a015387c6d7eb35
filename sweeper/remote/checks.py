"""``resources.files``: what it does not go with yet, and whether the address can be used."""

from __future__ import annotations

from sweeper.errors import Problem, SpaceFileError
from sweeper.remote.storage import FIELD, RemoteFolder
from sweeper.space import Space

__all__ = ["check_files"]


def check_files(space: Space) -> None:
    """The address can be written and read from here; a file is written and removed again.

    Raises UserError.
    """
    address = space.closed.get("resources.files")
    if address is None:
        return
    settings = space.settings
    problems = [
        Problem(
            where=space.places.get(where, str(space.source)),
            value=value,
            rule=f"{what} on one folder that all nodes share, and {FIELD} is for nodes that share none",
            remedy=f"leave it out, or {FIELD} with the sweep's folder on a shared file system",
        )
        for where, value, what, is_asked in (
            ("engine", "engine", "another trainer's files lie", settings.engine is not None),
            (
                "evaluation.retention",
                str(settings.evaluation.retention),
                "the first trial finds what is retained, and all others read it",
                settings.evaluation.retention is not None,
            ),
        )
        if is_asked
    ]
    if problems:
        raise SpaceFileError(problems)
    RemoteFolder(address).check()
