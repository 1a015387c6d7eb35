"""Somebody else's trainer as one trial: its command is run and watched, its metrics are read.

It has the protocol of sweeper's own trainer (``sweeper.training.engine``), as far as a command can have it:
it cannot be paused, and it writes its states itself.
"""

from sweeper.engines.command import CommandEngine
from sweeper.engines.processes import reap_commands
from sweeper.engines.requirements import require_program

__all__ = ["CommandEngine", "reap_commands", "require_program"]
