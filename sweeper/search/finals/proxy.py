"""From small to large: which of a proxy's best train on the real thing next, and how well its order held.

Pure: space and records decide, whoever reads them and however often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from sweeper.search.finals.confirm import contenders
from sweeper.search.front import order
from sweeper.search.records import TrialRecord, TrialState, searched

if TYPE_CHECKING:
    from sweeper.space import Space, Values

__all__ = ["Pair", "Transfer", "next_final", "runs_of_finals", "to_train_again", "transfer_of"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One configuration on the proxy and on the real thing, both trained to their ends."""

    proxy: int
    """The number of the trial on the proxy."""
    real: int
    proxy_value: float
    value: float


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How well the proxy's order holds on the real thing, as far as it is known."""

    pairs: tuple[Pair, ...]
    """The proxy's best first."""
    tau: float | None
    """Kendall's tau-a: (pairs of configurations in the same order - in the other one) / all; None of fewer
    than two. Those that were chosen are close to each other, so that it is lower than over all trials."""
    same_order: int
    """Pairs of configurations that both put in the same order."""
    compared: int
    """Pairs of configurations."""
    place_of_best: int | None
    """Which place the proxy's best has on the real thing, from 1; None where it has no value there."""


def next_final(space: Space, records: Sequence[TrialRecord]) -> int | None:
    """The trial on the proxy whose values train on the real thing next; None where nothing is to begin.

    Those of the best ``search.proxy.top`` are first: trials trained to their ends by their values, and where
    these are too few the paused ones by their chance; one that fails on the real thing makes room for the
    next, until more than ``top`` have failed. The rules of thumb, which all are compared with, are last. It
    is for when the search is over.
    """
    top, states = space.settings.search.proxy.finalists, _states(records)
    wanted = failed = 0
    for number in _finalists(space, records):
        if wanted == top or failed > top:
            break
        if number not in states:
            return number
        failed += states[number] is TrialState.FAIL
        wanted += states[number] is not TrialState.FAIL
    ended = (one.number for one in searched(records) if one.is_default and one.final_value is not None)
    return next((number for number in ended if number not in states), None)


def runs_of_finals(space: Space) -> int:
    """How many trials train on the real thing, at most, if none fails: the best and the rules of thumb."""
    proxy, trials = space.settings.search.proxy, space.settings.search.trials
    return min(proxy.finalists + 1, trials) if proxy.is_wanted else 0


def to_train_again(space: Space, records: Sequence[TrialRecord]) -> list[Values]:
    """The values that would train again if the search were over now: on the real thing, else under other
    seeds."""
    if not space.settings.search.proxy.is_wanted:
        return [one.values for one in contenders(space, records)]
    best = order(searched(records), space.settings.objective)
    return [one.values for one in best[: space.settings.search.proxy.finalists]]


def transfer_of(space: Space, records: Sequence[TrialRecord]) -> Transfer | None:
    """None where the sweep has no proxy."""
    if not space.settings.search.proxy.is_wanted:
        return None
    sign, by_number = 1.0 if space.settings.objective.mode == "min" else -1.0, _by_number(records)
    real = [one for one in records if one.real_of is not None and one.replicate_of is None]
    pairs = [
        Pair(proxy=small.number, real=one.number, proxy_value=small.final_value, value=one.final_value)
        for one in real
        if (small := by_number[one.real_of]).final_value is not None and one.final_value is not None
    ]
    pairs.sort(key=lambda pair: (sign * pair.proxy_value, pair.proxy))
    signs = [
        _sign(one.proxy_value - other.proxy_value) * _sign(one.value - other.value)
        for one, other in combinations(pairs, 2)
    ]
    best = order(searched(records), space.settings.objective)
    is_first = bool(pairs and best) and pairs[0].proxy == best[0].number
    return Transfer(
        pairs=tuple(pairs),
        tau=sum(signs) / len(signs) if signs else None,
        same_order=signs.count(1),
        compared=len(signs),
        place_of_best=1 + sum(sign * (one.value - pairs[0].value) < 0 for one in pairs) if is_first else None,
    )


def _finalists(space: Space, records: Sequence[TrialRecord]) -> list[int]:
    own = searched(records)
    paused = sorted(
        (one for one in own if one.state is TrialState.PAUSED),
        key=lambda one: (-(one.chance or 0.0), one.number),
    )
    return [one.number for one in (*order(own, space.settings.objective), *paused)]


def _states(records: Sequence[TrialRecord]) -> dict[int, TrialState]:
    """Of what trained or trains on the real thing, by the number on the proxy. What a budget cut short is to
    be had again, and what waits was never begun."""
    gone = (TrialState.PRUNED, TrialState.WAITING)
    return {one.real_of: one.state for one in records if one.real_of is not None and one.state not in gone}


def _by_number(records: Sequence[TrialRecord]) -> dict[int | None, TrialRecord]:
    return {one.number: one for one in records}


def _sign(difference: float) -> int:
    return 0 if difference == 0 else int(math.copysign(1, difference))
