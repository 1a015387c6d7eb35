"""How sure a sweep is of what it chooses, in sentences and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.recommend.ranking import tokens_seen
from sweeper.search import Candidate, Confirmation, Interval, TrialRecord, chosen, confirmation_of, how_sure

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = ["confirmation_line", "confirmation_tree", "confirmed_cells", "sure_line", "sure_tree"]

_WORTH_TELLING, _MOST_TOLD = 0.05, 3


def confirmation_line(space: Space, trials: Sequence[TrialRecord]) -> str | None:
    """What the runs under fresh seeds say, in one sentence; None where there are none."""
    found = confirmation_of(space, trials)
    if found is None or all(one.replicate_of is None for one in trials):
        return None
    best = found.candidate(found.chosen)
    if best is None:
        return _undecided(found)
    metric = space.settings.objective.metric
    mean = "" if best.mean is None else f" has {metric} {best.mean:.4g} on average over {_seeds(best)}"
    return f"chosen by fresh seeds: trial {best.trial}{mean}{_against_others(found, best, trials)}"


def confirmation_tree(space: Space, trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """The same for programs; None where no confirmation is wanted, or fewer than two trials are complete.

    ``{"seeds", "wanted_seeds", "is_over", "chosen", "leader", "trials": [{"trial", "values", "mean",
    "behind": {"mean", "low", "high"}, "is_tied"}]}``: ``values`` are objectives in the order of ``seeds``,
    ``behind`` is how much worse than the leader, paired by seed, with its 95 % interval. ``chosen`` is null
    as long as less than two seeds count.
    """
    found = confirmation_of(space, trials)
    if found is None:
        return None
    return {
        "seeds": list(found.seeds),
        "wanted_seeds": found.wanted_seeds,
        "is_over": found.is_over,
        "chosen": found.chosen,
        "leader": found.leader,
        "trials": [_candidate_tree(one) for one in found.candidates],
    }


def confirmed_cells(candidate: Candidate | None) -> dict[str, float | None]:
    """One trial's part of it, for files of rows."""
    behind = None if candidate is None else candidate.behind
    return {
        "fresh_seeds": None if candidate is None else len(candidate.values),
        "fresh_mean": None if candidate is None else candidate.mean,
        "behind_leader": None if behind is None else behind.mean,
        "behind_leader_low": None if behind is None else behind.low,
        "behind_leader_high": None if behind is None else behind.high,
    }


def sure_line(space: Space, trials: Sequence[TrialRecord]) -> str | None:
    """How likely the chosen trial and its rivals are the best, each having been trained once; None where that
    cannot be told, or where runs under fresh seeds have decided."""
    chances, best = _chances(space, trials), chosen(space, trials)
    if not chances or best is None:
        return None
    told = [number for number in list(chances)[:_MOST_TOLD] if chances[number] >= _WORTH_TELLING]
    first, *others = dict.fromkeys([best.number, *told])
    said = f"by one run each, trial {first} is the best of these with a chance of {_percent(chances[first])}"
    return ", ".join([said, *(f"trial {number} with {_percent(chances[number])}" for number in others)])


def sure_tree(space: Space, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The same for programs: ``[{"trial", "chance"}]`` of all complete trials, the most likely first."""
    return [{"trial": number, "chance": chance} for number, chance in _chances(space, trials).items()]


def _chances(space: Space, trials: Sequence[TrialRecord]) -> dict[int, float]:
    found = confirmation_of(space, trials)
    return {} if found is not None and found.chosen is not None else how_sure(space, trials)


def _undecided(found: Confirmation) -> str:
    if found.is_over:
        return "not chosen by fresh seeds: each of the best trials failed under one; their own runs decide"
    return (
        f"not chosen by fresh seeds yet: all of the best trials were trained under {len(found.seeds)} of "
        f"{found.wanted_seeds}, and it takes two; until then their own runs decide"
    )


def _against_others(found: Confirmation, best: Candidate, trials: Sequence[TrialRecord]) -> str:
    tied = [one for one in found.candidates if one.is_open and one is not best]
    if tied:
        tokens = next(tokens_seen(one) for one in trials if one.number == best.trial)
        compared = [one for one in (best, *tied) if one.behind is not None]
        leader = "it" if best.trial == found.leader else f"trial {found.leader}"
        said = [f"trial {one.trial} is behind {leader} by {_words(one.behind)}" for one in compared]
        others = f"trial{'s' * (len(tied) > 1)} {', '.join(str(one.trial) for one in tied)}"
        is_leader, cost = best.trial == found.leader, f"{tokens:,} tokens"
        why = f"none of them is cheaper ({cost})" if is_leader else f"trial {best.trial} is cheaper ({cost})"
        return f", tied with {others}: {'; '.join([*said, why])}"
    next_best = min(
        (one for one in found.candidates if one.behind is not None),
        key=lambda one: 0.0 if one.behind is None else one.behind.mean,
        default=None,
    )
    if next_best is None:
        return "; the others failed under fresh seeds"
    return f"; trial {next_best.trial}, the next best, is behind it by {_words(next_best.behind)}"


def _seeds(candidate: Candidate) -> str:
    count = len(candidate.values)
    return f"{count} seed{'s' * (count > 1)}"


def _words(interval: Interval | None) -> str:
    assert interval is not None
    return f"{interval.mean:.2g} (95 % interval {interval.low:.2g} to {interval.high:.2g})"


def _percent(chance: float) -> str:
    return f"{100 * chance:.0f} %"


def _candidate_tree(candidate: Candidate) -> dict[str, Any]:
    behind = candidate.behind
    return {
        "trial": candidate.trial,
        "values": list(candidate.values),
        "mean": candidate.mean,
        "behind": None if behind is None else {"mean": behind.mean, "low": behind.low, "high": behind.high},
        "is_tied": candidate.is_open,
    }
