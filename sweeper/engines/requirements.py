"""What can be known of a command before it is run."""

from __future__ import annotations

import shutil
from pathlib import Path

from sweeper.errors import SpaceFileError
from sweeper.space import Space

__all__ = ["require_program"]


def require_program(space: Space) -> None:
    """Raises SpaceFileError where the engine's program is not on this machine. On a cluster's other nodes it
    is not looked for."""
    engine = space.settings.engine
    if engine is None or shutil.which(engine.program) is not None:
        return
    is_path = "/" in engine.program
    rule = "there is no such program" if is_path else "there is no such program on PATH"
    if is_path and Path(engine.program).is_file():
        rule = "is a file that cannot be executed"
    remedy = "write the path of one, such as the python of the trainer's own environment"
    raise SpaceFileError([space.problem("engine.command", engine.program, rule, remedy)])
