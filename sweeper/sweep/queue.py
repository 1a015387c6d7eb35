"""Which trial a free place gets: the one place where a sweep decides what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeper.search import (
    Ledger,
    Past,
    Pause,
    Stopper,
    TrialRecord,
    TrialState,
    confirmation_of,
    next_final,
    own_evaluations,
)
from sweeper.space import Space
from sweeper.sweep.budget import Budget

__all__ = ["TrialQueue"]

_SEARCH_ENDED = "search_ended"
"""What the ledger keeps of a search that has used up its part of the budget: what it was to have. It goes on
when it gets more."""


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
        no new one and nothing runs, what the stopper still wants trained; and when the search is over, a
        proxy's best on the real thing, and then the best ones again under other seeds. A ``Pause`` says that
        the first of the unfinished trials is to pause instead: its driver ended before it could say so. Ask
        again then.

        Raises what ``Ledger.ask`` raises.
        """
        everything = list(records.values())
        before = self.ledger.searched
        if self.unfinished:
            first = self.unfinished[0]
            if not (first.is_searched and own_evaluations(first)):
                return self.unfinished.pop(0)  # nobody decides on it, or has decided yet
            decision = self.stopper.decide(first.number, before, self.ledger.untrained)
            return decision if isinstance(decision, Pause) else self.unfinished.pop(0)
        if (number := self.stopper.goes_on(before, space_is_exhausted=None)) is not None:
            return self.ledger.go_on(number, to_end=False)
        is_enough = len(before) - self.ledger.waiting >= self.space.settings.search.trials
        if not (is_enough or self._search_has_ended()):
            reserved_s = self.budget.reserved_s(everything)
            new = self.ledger.ask(
                lambda one: self.budget.fits(one, everything, reserved_s=reserved_s), self.past
            )
            if new is not None:
                return new
            if self.budget.search_is_full:
                self.ledger.note_sweep(**{_SEARCH_ENDED: self._search_limits()})
        if any(record.state is TrialState.RUNNING for record in before):
            return None
        is_exhausted = not (is_enough or self.budget.search_is_full)
        number = self.stopper.goes_on(before, space_is_exhausted=is_exhausted)
        return self._final(everything) if number is None else self.ledger.go_on(number, to_end=True)

    def _search_has_ended(self) -> bool:
        """By the budget. What it has left is for the runs under other seeds, however long these take."""
        ended = self.ledger.sweep_attributes().get(_SEARCH_ENDED)
        self.budget.search_is_full = ended is not None and ended == self._search_limits()
        return self.budget.search_is_full

    def _search_limits(self) -> dict[str, float | None]:
        limit = self.budget.limit
        trials = self.space.settings.search.trials
        return {"trials": trials, "limit_s": None if limit is None else limit.seconds}

    def _final(self, records: list[TrialRecord]) -> TrialRecord | None:
        """The next trial on the real thing, where the search was on a proxy; when these are over, the next
        run of the confirmation."""
        if not self.space.settings.search.proxy.is_wanted:
            return self._replicate(records)
        if (number := next_final(self.space, records)) is not None:
            values = next(record.values for record in records if record.number == number)
            fits = self.budget.fits(values, records, is_searched=False)
            return self.ledger.train_real(number) if fits else None
        is_busy = any(one.real_of is not None and one.state is TrialState.RUNNING for one in records)
        return None if is_busy else self._replicate(records)

    def _replicate(self, records: list[TrialRecord]) -> TrialRecord | None:
        """The next run of the confirmation, where there is time for it."""
        confirmation = confirmation_of(self.space, records)
        if confirmation is None or not confirmation.next_runs:
            return None
        number, seed = confirmation.next_runs[0]
        values = next(record.values for record in records if record.number == number)
        fits = self.budget.fits(values, records, is_searched=False)
        return self.ledger.replicate(number, seed) if fits else None
