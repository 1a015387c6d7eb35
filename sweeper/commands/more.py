"""More for a sweep than it was begun with: trials, time or money, kept in its folder from then on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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

__all__ = ["More", "asked_again", "keep_more", "what_is_left"]

_TOTALS = ("search.trials", "search.time_budget", "search.cost_budget")
_WHERE_IT_RUNS = ("resources.ray_address", "resources.env")
"""A job that is started again may come to another cluster."""
_FOLDER = "checkpoint_path"


@dataclass(frozen=True, kw_only=True)
class More:
    """New totals, all drivers of the sweep and all its trials so far included; None leaves one as it is."""

    trials: int | None = None
    time_budget: str | None = None
    """As in a space file: ``4h``."""
    cost_budget: float | None = None
    place: Mapping[str, Any] = field(default_factory=dict)
    """Where it runs from now on: path -> value of ``resources``."""

    def of(self, folder: SweepFolder) -> Space:
        """The stored space with the new totals in it. Raises SpaceFileError for what is no total."""
        asked = {
            "search.trials": self.trials,
            "search.time_budget": self.time_budget,
            "search.cost_budget": self.cost_budget,
        }
        overrides = [f"{key}={value}" for key, value in asked.items() if value is not None]
        overrides += [f"{key}={json.dumps(value)}" for key, value in self.place.items()]
        return stored_space(folder, overrides)


def asked_again(asked: Space, stored: Space) -> More:
    """What a sweep's file, given again, asks beyond what the sweep's folder holds: totals only ever grow.

    Args:
        asked: the file, closed with the facts that the folder holds.

    Raises SweepFolderError where it asks for another search.
    """
    now, before = _flat(asked.resolved()), _flat(stored.resolved())
    changed = sorted(path for path in now | before if now.get(path) != before.get(path))
    tested = ("training.lr",) if asked.range_test is not None else ()  # the folder has what was found
    is_other = [one for one in changed if not one.startswith((*_TOTALS, *_WHERE_IT_RUNS, _FOLDER, *tested))]
    if is_other:
        raise SweepFolderError.of(
            where=str(asked.source),
            value=", ".join(is_other),
            rule="the sweep's folder holds a sweep that was begun with other values",
            remedy="go on with it as it was begun by `sweeper resume`, or begin another one with --out",
        )
    search, then = asked.settings.search, stored.settings.search
    longer = search.time_budget_s is not None and search.time_budget_s > (then.time_budget_s or math.inf)
    dearer = search.cost_budget is not None and search.cost_budget > (then.cost_budget or math.inf)
    return More(
        trials=search.trials if search.trials > then.trials else None,
        time_budget=now["search.time_budget"] if longer else None,
        cost_budget=search.cost_budget if dearer else None,
        place={path: now.get(path) for path in _WHERE_IT_RUNS if path in changed},
    )


def _flat(tree: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """The tree of a space file by dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = _flat(value, f"{under}{name}.") if isinstance(value, dict) else {f"{under}{name}": value}
        flat.update(inner)
    return flat


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
