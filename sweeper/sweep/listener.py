"""Who is told of what happens in a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeper.search import TrialRecord
    from sweeper.space import Config
    from sweeper.sweep.recovery import TrialRestart
    from sweeper.training import Moved, Prepared, Progress

__all__ = ["Listener"]


class Listener:
    """Told of what the ledger has already taken; passes over what it does not override. Must neither block
    nor raise."""

    def trial_started(self, number: int, record: TrialRecord, config: Config) -> None:
        """It has got its place. ``config`` is what was asked; what it trains with may be lighter, and may
        become so."""

    def trial_prepared(self, number: int, prepared: Prepared) -> None:
        """Its first step comes next."""

    def moved(self, number: int, moved: Moved) -> None:
        """Between evaluations, now and then; the ledger knows nothing of it."""

    def progressed(self, number: int, progress: Progress) -> None:
        """It was evaluated, or paused between two evaluations."""

    def trial_set_back(self, number: int, setback: TrialRestart) -> None:
        """It begins again from its last state."""

    def warned(self, number: int, warning: str) -> None:
        """It goes on all the same."""

    def trial_paused(self, record: TrialRecord) -> None:
        """It has given up its place; ``trial_started`` comes again when it goes on."""

    def trial_finished(self, record: TrialRecord) -> None:
        """Complete, stopped or failed."""
