"""When which worker trained what, as the evaluations tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.search import TrialRecord, own_evaluations

__all__ = ["Stretch", "idle_share", "stretches"]

_PAUSED_S = 5.0
"""So much longer between two evaluations than what was trained between them: the trial was paused."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One trial at work without a pause."""

    trial: int
    worker: int
    """From 1: the first place that was free."""
    start_s: float
    end_s: float
    """Both in seconds since the first trial's start."""


def stretches(trials: Sequence[TrialRecord]) -> list[Stretch]:
    """All of them by their start. Of trials whose evaluations have no clock time there are none."""
    spans = sorted((start, end, one.number) for one in trials for start, end in _spans(one))
    if not spans:
        return []
    origin, free = spans[0][0], list[float]()
    found = []
    for start, end, number in spans:
        worker = next((place for place, until in enumerate(free) if until <= start), len(free))
        free[worker : worker + 1] = [end]
        found.append(Stretch(trial=number, worker=worker + 1, start_s=start - origin, end_s=end - origin))
    return found


def idle_share(found: Sequence[Stretch]) -> float:
    """The part of the workers' time, from the first start to the last end, in which they trained nothing."""
    workers = {one.worker for one in found}
    whole = max(one.end_s for one in found) * len(workers)
    return 1.0 - sum(one.end_s - one.start_s for one in found) / whole if whole > 0 else 0.0


def _spans(record: TrialRecord) -> list[tuple[float, float]]:
    """Start and end of each stretch, in seconds since the epoch."""
    own = [one for one in own_evaluations(record) if one.time_s is not None]
    if not own:
        is_told = record.same_as is None and record.started_s is not None and record.ended_s is not None
        return [(record.started_s, record.ended_s)] if is_told else []  # type: ignore[list-item]
    taken = [one.seconds for one in record.evaluations if one.tokens < own[0].tokens]
    before_s = taken[-1] if taken else 0.0
    spans: list[tuple[float, float]] = []
    for one in own:
        assert one.time_s is not None
        start_s = one.time_s - max(one.seconds - before_s, 0.0)
        before_s = one.seconds
        if spans and start_s - spans[-1][1] < _PAUSED_S:
            spans[-1] = spans[-1][0], one.time_s
        else:
            spans.append((start_s, one.time_s))
    return spans
