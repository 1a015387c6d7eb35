"""``resources.files``: what it does not go with yet, and whether the address can be used."""

from __future__ import annotations

from collections.abc import Iterator

from sweeper.errors import SpaceFileError
from sweeper.remote.storage import FIELD, RemoteFolder
from sweeper.space import Space

__all__ = ["check_files"]


def check_files(space: Space) -> None:
    """The address can be written and read from here; a file is written and removed again.

    Raises UserError.
    """
    address = space.closed.get(FIELD)
    if address is None:
        return
    problems = [
        space.problem(path, value, f"{rule}, and {FIELD} is for nodes that share none", remedy)
        for path, value, rule, remedy in _on_shared_folders(space)
    ]
    if problems:
        raise SpaceFileError(problems)
    RemoteFolder(address).check()


def _on_shared_folders(space: Space) -> Iterator[tuple[str, str, str, str]]:
    """Path, value, rule and remedy of what works on a folder that all nodes see."""
    settings = space.settings
    if settings.engine is not None:
        rule = "the files of another trainer lie in a folder that all nodes see"
        yield "engine", settings.engine.preset or "command", rule, "leave the address out"
    if settings.evaluation.retention is not None:
        rule = "what is retained is found by the first trial, in a folder that all nodes see"
        yield "evaluation.retention", settings.evaluation.retention, rule, "leave one of the two out"
    if space.range_test is not None:
        rule = "the range test reads its rows in a folder that all nodes see"
        yield (
            "training.lr",
            "range_test",
            rule,
            "write a range that `sweeper lr-range` finds on one machine",
        )
    for path in space.measured:
        rule = "auto is measured here by probes, which read their rows in a folder that all nodes see"
        yield path, "auto", rule, "write a value that `sweeper autotune` has found on one machine"
