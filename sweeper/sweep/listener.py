"""Who is told of what happens in a sweep."""

from __future__ import annotations

from typing import Protocol

from sweeper.search import TrialRecord
from sweeper.space import Config
from sweeper.sweep.recovery import TrialRestart
from sweeper.train import Moved, Prepared, Progress

__all__ = ["Listener"]


class Listener(Protocol):
    """Told of what the ledger has already taken. Must neither block nor raise."""

    def trial_started(self, number: int, record: TrialRecord, config: Config) -> None:
        """It has got its place. ``config`` is what was asked; what it trains with may be lighter, and may
        become so."""

    def trial_prepared(self, number: int, prepared: Prepared) -> None: ...

    def moved(self, number: int, moved: Moved) -> None:
        """Between evaluations, now and then; the ledger knows nothing of it."""

    def progressed(self, number: int, progress: Progress) -> None: ...

    def trial_set_back(self, number: int, setback: TrialRestart) -> None: ...

    def warned(self, number: int, warning: str) -> None: ...

    def trial_paused(self, record: TrialRecord) -> None:
        """It has given up its place; ``trial_started`` comes again when it goes on."""

    def trial_finished(self, record: TrialRecord) -> None: ...
