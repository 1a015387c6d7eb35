"""More for a sweep than it was begun with: trials, time or money, kept in its folder from then on."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.autotune import Limit, limit_of
from sweeper.errors import SweepFolderError
from sweeper.search import (
    Ledger,
    TrialRecord,
    begun,
    configurations,
    confirmation_of,
    next_final,
    space_in_force,
)
from sweeper.space import Space, SweepFolder, duration_text
from sweeper.sweep.budget import SPENT
from sweeper.sweep.stored import store_asked, stored_space

__all__ = ["More", "keep_more", "what_is_left"]


@dataclass(frozen=True, kw_only=True)
class More:
    """New totals, all drivers of the sweep and all its trials so far included; None leaves one as it is."""

    trials: int | None = None
    time_budget: str | None = None
    """As in a space file: ``4h``."""
    cost_budget: float | None = None

    def of(self, folder: SweepFolder) -> Space:
        """The stored space with the new totals in it. Raises SpaceFileError for what is no total."""
        asked = {
            "search.trials": self.trials,
            "search.time_budget": self.time_budget,
            "search.cost_budget": self.cost_budget,
        }
        return stored_space(folder, [f"{key}={value}" for key, value in asked.items() if value is not None])


def keep_more(space: Space, ledger: Ledger, folder: SweepFolder, more: More) -> None:
    """Store the new totals, so that every later driver and ``status`` know them. The folder is locked.

    Raises SweepFolderError where they leave nothing to do: the sweep has begun more trials, or spent more.
    """
    if more == More():
        return
    asked, limit = begun(ledger.trials()), limit_of(space)
    if space.settings.search.trials < asked:
        raise SweepFolderError.of(
            where=str(folder.root),
            value=f"{space.settings.search.trials} trials",
            rule=f"the sweep has begun {asked} already, and --trials is their number in all",
            remedy=f"give at least {asked}, or leave the option out",
        )
    if limit is not None and _spent_s(ledger) >= limit.seconds:
        option = "--time-budget" if limit.name == "the time budget" else "--cost-budget"
        raise SweepFolderError.of(
            where=str(folder.root),
            value=limit.amount,
            rule=f"{limit.name} is what all drivers of the sweep may have, and they had {_spent(ledger)}",
            remedy=f"give more than that with {option}",
        )
    store_asked(space, folder)


def what_is_left(space: Space, ledger: Ledger) -> list[str]:
    """What a sweep that goes on has before it, in sentences."""
    trials, limit = ledger.trials(), limit_of(space)
    wanted, asked = space.settings.search.trials, begun(trials)
    confirmation = confirmation_of(space, trials)
    said = [f"going on: {asked} of {wanted} trials were begun"]
    if confirmation is not None:
        said.append(
            f"the best trials were trained under {len(confirmation.seeds)} of {confirmation.wanted_seeds} "
            "fresh seeds"
        )
    real = [one for one in trials if one.real_of is not None]
    if real:
        ended = sum(one.state.is_finished for one in real)
        said.append(f"{ended} of the proxy's best have ended on the real thing")
    if asked >= wanted and (confirmation is None or confirmation.is_over) and not _has_finals(space, trials):
        said.append("there is nothing left to begin; for more of it: --trials with a larger number")
    if limit is not None:
        said.append(f"{limit}: {_spent(ledger)} are spent, {_left(limit, ledger)}")
    every = configurations(space_in_force(space, trials))
    if every is not None and len(every) < wanted:
        said.append(f"the space has {len(every)} configurations, fewer than {wanted} trials")
    return said


def _has_finals(space: Space, trials: list[TrialRecord]) -> bool:
    """Whether something is still to train on the real thing, after a search on a proxy."""
    if not space.settings.search.proxy.is_wanted:
        return False
    is_busy = any(not one.state.is_finished and one.real_of is not None for one in trials)
    return is_busy or next_final(space, trials) is not None


def _spent_s(ledger: Ledger) -> float:
    return float(ledger.sweep_attributes().get(SPENT, 0.0))


def _spent(ledger: Ledger) -> str:
    return duration_text(float(max(round(_spent_s(ledger)), 1)))


def _left(limit: Limit, ledger: Ledger) -> str:
    left_s = round(limit.seconds - _spent_s(ledger))
    return f"{duration_text(float(left_s))} are left" if left_s > 0 else "nothing is left"
