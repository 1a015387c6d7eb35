"""The boards that a sweep asks for; their packages are imported late, in the thread of each."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sweeper.errors import MissingDependencyError, Problem
from sweeper.track.boards.writer import Board, BoardWriter

if TYPE_CHECKING:
    from sweeper.space import Space, SweepFolder

__all__ = ["boards_of", "check_boards"]

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}
_NOTES = ".written.json"
"""In a board's folder: who removes it gets everything written anew."""


def check_boards(space: Space) -> None:
    """Whether what ``tracking.also`` names can be written to from here; imports nothing of it.

    Raises MissingDependencyError with what to install.
    """
    missing = [name for name in space.settings.tracking.also if find_spec(_PACKAGES[name]) is None]
    if missing:
        raise MissingDependencyError(
            Problem(
                where=space.places.get("tracking.also", str(space.source)),
                value=name,
                rule=f"the package {_PACKAGES[name]} is not installed",
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
            _makers(space, folder, sweep_id)[name],
            folder.board_dir(name) / _NOTES,
            remedy=f"sweeper sync {folder.root}",
            warn=warn,
        )
        for name in space.settings.tracking.also
    ]


def _makers(space: Space, folder: SweepFolder, sweep_id: str) -> dict[str, Callable[[], Board]]:
    def tensorboard() -> Board:
        from sweeper.track.boards.event_files import TensorBoard

        return TensorBoard(folder.board_dir("tensorboard"))

    def wandb() -> Board:
        from sweeper.track.boards.wandb_runs import wandb_apart

        return wandb_apart(
            folder.board_dir("wandb"), project=space.experiment, group=space.name, sweep_id=sweep_id
        )

    return {"tensorboard": tensorboard, "wandb": wandb}
