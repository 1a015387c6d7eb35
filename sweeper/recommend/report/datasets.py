"""The rows that charts draw, by name. A searched value is ``d0``, ``d1``, ... in the order of the space: the
names of fields have dots in them, which Vega takes for paths."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from sweeper.recommend.peaks import peak_of
from sweeper.recommend.ranking import tokens_seen
from sweeper.recommend.report.material import Material, own_seconds, plain
from sweeper.recommend.report.timeline import stretches
from sweeper.search import TrialRecord, TrialState, own_evaluations
from sweeper.search.front import devices_of, nondominated
from sweeper.search.records import finite_or_none

__all__ = ["Rows", "column", "datasets", "ended_how"]

Rows = list[dict[str, Any]]
_HOUR_S = 3600.0
_ENDED = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.PAUSED: "paused",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


def column(material: Material, name: str) -> str:
    """The key of a dimension's values in ``trials``."""
    return f"d{[one.name for one in material.space.dimensions].index(name)}"


def datasets(material: Material) -> dict[str, Rows]:
    """All of them; those that nothing is known for are empty."""
    return {
        "trials": _trials(material),
        "curves": _curves(material),
        "progress": _progress(material),
        "timeline": [vars(one) for one in stretches(material.trials)],
        "lengths": _lengths(material),
    }


def ended_how(record: TrialRecord) -> str:
    """A trial's state in a word; on a proxy it is told apart, for its values are no rivals of the others."""
    if record.is_proxy and record.state is TrialState.COMPLETE:
        return "on the proxy"
    return _ENDED[record.state]


def _trials(material: Material) -> Rows:
    sign = 1.0 if material.space.settings.objective.mode == "min" else -1.0
    rows: Rows = []
    for row, one in zip(material.rows, _in_order(material), strict=True):
        peak = peak_of(one)
        rows.append(
            {
                "trial": one.number,
                "state": ended_how(one),
                "value": finite_or_none(one.value),
                "tokens": tokens_seen(one),
                "hours": own_seconds(one) / _HOUR_S * devices_of(one.attributes.get("config")),
                "cost": _cost(material, one, row.also),
                "predicted": peak.predicted_gib,
                "measured": peak.measured_gib,
                "why": one.reason or ("the default configuration" if one.is_default else ""),
                "chosen": _mark(material, one),
                **{
                    f"d{index}": plain(row.values.get(dimension.name))
                    for index, dimension in enumerate(material.space.dimensions)
                },
            }
        )
    ended = [one for one in rows if one["state"] == "complete" and one["cost"] is not None]
    front = nondominated([(sign * one["value"], one["cost"]) for one in ended])
    for place, told in enumerate(ended):
        told["front"] = place in front
    return rows


def _in_order(material: Material) -> list[TrialRecord]:
    by_number = {one.number: one for one in material.asked}
    return [by_number[row.trial] for row in material.rows]


def _mark(material: Material, record: TrialRecord) -> str:
    if material.best is not None and record.number == material.best.number:
        return "chosen"
    return "default" if record.is_default else ""


def _cost(material: Material, record: TrialRecord, also: float | None) -> float | None:
    """The second objective where it is one to be kept small, else GPU seconds as if nothing had been taken
    over."""
    if record.state is not TrialState.COMPLETE or record.is_proxy:
        return None
    if material.space.settings.objective.also is not None:
        return also
    return None if record.seconds is None else record.seconds * devices_of(record.attributes.get("config"))


def _curves(material: Material) -> Rows:
    """One row for each evaluation; how its trial ended and why stands in each, for the one under the
    pointer."""
    rows: Rows = []
    for one in material.asked:
        told = {"state": ended_how(one), "why": one.reason or "", "chosen": _mark(material, one)}
        last = len(one.evaluations) - 1
        for place, evaluation in enumerate(one.evaluations):
            value = finite_or_none(evaluation.metrics.get(material.metric, math.nan))
            rows.append(
                {
                    "trial": one.number,
                    "tokens": evaluation.tokens,
                    "value": value,
                    "last": place == last,
                    **told,
                }
            )
    return rows


def _progress(material: Material) -> Rows:
    """After each trial that was trained to its end: the best so far, by trials, tokens and hours."""
    ended = sorted(material.complete, key=_moment)
    sign = 1.0 if material.space.settings.objective.mode == "min" else -1.0
    spent = sorted((moment, tokens) for one in material.trials for moment, tokens in _tokens_spent(one))
    moments, totals = [moment for moment, _ in spent], [0, *accumulate(tokens for _, tokens in spent)]
    starts = sorted(one.started_s for one in material.asked if one.started_s is not None)
    start = min(starts, default=None)
    best = math.inf
    rows: Rows = []
    for count, one in enumerate(ended, start=1):
        moment = _moment(one)
        best = min(best, sign * (one.final_value or 0.0))
        begun = bisect_right(starts, moment)
        rows.append(
            {
                "trials": begun or count,
                "tokens": totals[bisect_right(moments, moment)],
                "hours": None if start is None else (moment - start) / _HOUR_S,
                "value": sign * best,
                "trial": one.number,
            }
        )
    return rows


def _moment(record: TrialRecord) -> float:
    """When a trial ended, in seconds since the epoch; by its number where it is not known."""
    last = record.evaluations[-1].time_s if record.evaluations else None
    return record.ended_s if last is None and record.ended_s is not None else (last or float(record.number))


def _tokens_spent(record: TrialRecord) -> list[tuple[float, int]]:
    """Moment and tokens trained since the evaluation before."""
    seen = record.saved_tokens
    found: list[tuple[float, int]] = []
    for one in own_evaluations(record):
        found.append((one.time_s or _moment(record), max(one.tokens - seen, 0)))
        seen = one.tokens
    return found


def _lengths(material: Material) -> Rows:
    """How many rows have so many tokens, in at most 40 steps of equal width."""
    if not material.lengths:
        return []
    width = max(math.ceil((max(material.lengths) + 1) / 40), 1)
    counts: dict[int, int] = {}
    for one in material.lengths:
        counts[int(one) // width] = counts.get(int(one) // width, 0) + 1
    return [
        {"from": place * width, "to": (place + 1) * width, "rows": count}
        for place, count in sorted(counts.items())
    ]
