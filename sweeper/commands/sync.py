"""Writes to MLflow afterwards what it missed of a sweep."""

from __future__ import annotations

import math
from pathlib import Path

from sweeper.errors import SweeperError
from sweeper.space import SweepFolder
from sweeper.sweep.lock import locked
from sweeper.sweep.mirror import Mirror
from sweeper.sweep.stored import open_sweep, sweep_state
from sweeper.track import check_boards, masked, tracking_uri

__all__ = ["sync_sweep"]


def sync_sweep(root: Path) -> str:
    """Hand the stored sweep to MLflow once more; says in a sentence what was missing there.

    Raises:
        UserError: there is no sweep in the folder, or a driver is at work on it.
        SweeperError: MLflow has not taken everything.
    """
    folder = SweepFolder(root)
    space, ledger = open_sweep(folder)
    check_boards(space)
    state = sweep_state(ledger, folder)
    with locked(folder):
        mirror = Mirror(space, folder, ledger)
        mirror.replay()
        mirror.conclude(state)
        warnings, content = mirror.close(math.inf), mirror.content()
    if warnings or content is None:
        raise SweeperError("\n".join(warnings))
    return (
        f"MLflow at {masked(tracking_uri(space.settings, folder.root))} has {content.trials} trials, "
        f"{content.points} points; {content.added_points} were missing"
    )
