"""The boards that a sweep asks for; their packages are imported late, in the thread of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sweeper.errors import MissingDependencyError, Problem
from sweeper.track.boards.writer import Board, BoardWriter

if TYPE_CHECKING:
    from sweeper.space import Space, SweepFolder

__all__ = ["boards_of", "check_boards"]

_NOTES = ".written.json"
"""In a board's folder: who removes it gets everything written anew."""


def check_boards(space: Space) -> None:
    """Whether what ``tracking.also`` names can be written to from here; imports nothing of it.

    Raises MissingDependencyError with what to install.
    """
    missing = [name for name in space.settings.tracking.also if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            Problem(
                where=space.places.get("tracking.also", str(space.source)),
                value=name,
                rule=f"the package {name} is not installed",
                remedy=f"pip install 'sweeper[{name}]', or take it out of tracking.also",
            )
            for name in missing
        )


def boards_of(
    space: Space, folder: SweepFolder, *, sweep_id: str, warn: Callable[[str], None]
) -> list[BoardWriter]:
    """One for each name in ``tracking.also``."""
    return [
        BoardWriter(
            name,
            partial(_make, name, space, folder, sweep_id),
            folder.board_dir(name) / _NOTES,
            remedy=f"sweeper sync {folder.root}",
            warn=warn,
        )
        for name in space.settings.tracking.also
    ]


def _make(name: str, space: Space, folder: SweepFolder, sweep_id: str) -> Board:
    if name == "tensorboard":
        from sweeper.track.boards.event_files import TensorBoard

        return TensorBoard(folder.board_dir(name))
    from sweeper.track.boards.wandb_runs import wandb_apart

    return wandb_apart(folder.board_dir(name), project=space.experiment, group=space.name, sweep_id=sweep_id)
