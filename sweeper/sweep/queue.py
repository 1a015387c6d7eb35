"""Which trial a free place gets: the one place where a sweep decides what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeper.search import Ledger, Past, Pause, Stopper, TrialRecord, TrialState, begun, own_evaluations
from sweeper.space import Space
from sweeper.sweep.budget import Budget

__all__ = ["TrialQueue"]


@dataclass(kw_only=True)
class TrialQueue:
    """A pure reading of the ledger, apart from the trials that it takes out of ``unfinished``."""

    space: Space
    ledger: Ledger
    stopper: Stopper
    budget: Budget
    past: Past | None = None
    """Other sweeps that this one goes by."""
    unfinished: list[TrialRecord] = field(default_factory=list)
    """Trials whose driver or processes ended while they ran: they come first, under their own numbers."""

    def next(self, records: Mapping[int, TrialRecord]) -> TrialRecord | Pause | None:
        """The trial that starts or goes on; None where there is none for now.

        An unfinished trial first, then a paused one whose chance has risen, then a new one; when there is
        no new one and nothing runs, what the stopper still wants trained. A ``Pause`` says that the first
        of the unfinished trials is to pause instead: its driver ended before it could say so. Ask again
        then.

        Raises what ``Ledger.ask`` raises.
        """
        before = list(records.values())
        if self.unfinished:
            first = self.unfinished[0]
            if not own_evaluations(first):
                return self.unfinished.pop(0)  # nobody has decided on it yet
            decision = self.stopper.decide(first.number, before, self.ledger.untrained)
            return decision if isinstance(decision, Pause) else self.unfinished.pop(0)
        if (number := self.stopper.goes_on(before, space_is_exhausted=None)) is not None:
            return self.ledger.go_on(number, to_end=False)
        is_enough = begun(before) >= self.space.settings.search.trials
        if not is_enough:
            new = self.ledger.ask(lambda values: self.budget.fits(values, before), self.past)
            if new is not None:
                return new
        if any(record.state is TrialState.RUNNING for record in before):
            return None
        number = self.stopper.goes_on(before, space_is_exhausted=not is_enough)
        return None if number is None else self.ledger.go_on(number, to_end=True)
