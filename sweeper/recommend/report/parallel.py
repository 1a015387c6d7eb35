"""Parallel coordinates: each complete trial as a line over all searched values and its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from sweeper.recommend.report.charts import Drawing, drawing, said_of
from sweeper.recommend.report.datasets import Rows
from sweeper.recommend.report.material import Material, plain

__all__ = ["parallel"]

_LOG_FROM = 8.0
_MOST_TICKS = 6


def parallel(material: Material) -> Drawing | None:
    """Good trials stand out; a range lies logarithmically where its values span a factor of eight or more."""
    import altair as alt

    if len(material.space.dimensions) < 2 or not material.judged:
        return None
    axes = _axes(material)
    rows, ticks = _rows(material, axes)
    x = alt.X("axis:N", sort=list(axes), title=None, axis=alt.Axis(labelAngle=0, labelLimit=90, domain=False))
    y = alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    parts = [f"var(--q{index})" for index in range(1, 6)]
    rank = alt.Color("fifth:O", title="fifth of the trials, 1 has the best", scale=alt.Scale(range=parts))
    lines = (
        alt.Chart(alt.NamedData("parallel"))
        .mark_line(opacity=0.8, strokeWidth=1.6)
        .encode(x=x, y=y, color=rank, detail="trial:N", order="position:Q", tooltip=["trial:N", "rank:Q"])
    )
    marks = alt.Chart(alt.NamedData("ticks")).encode(x=x)
    rules = marks.mark_rule(color="var(--line)", strokeWidth=1.5)
    written = marks.mark_text(
        color="var(--ink)", stroke="var(--card)", strokeWidth=4, dx=5, align="left", fontSize=11
    ).encode(y=y, text="text:N")
    return drawing(
        alt.layer(rules, lines, written).properties(width="container", height=320),
        title="Parallel coordinates",
        said=f"the values and the result of {said_of(len(material.judged), 'complete trial')}; coloured by "
        "the fifth of the ranking",
        is_wide=True,
        parallel=rows,
        ticks=ticks,
    )


def _axes(material: Material) -> dict[str, dict[int, Any]]:
    """Title of each axis -> number of each trial -> its value."""
    axes = {
        material.label(one.name): {
            trial.number: plain(trial.values[one.name])
            for trial in material.judged
            if one.name in trial.values
        }
        for one in material.space.dimensions
    }
    return {**axes, material.metric: {one.number: one.final_value for one in material.judged}}


def _rows(material: Material, axes: dict[str, dict[int, Any]]) -> tuple[Rows, Rows]:
    """Where each trial's line crosses each axis, and what is written at the axes."""
    ranks = material.ranks
    rows: Rows = []
    ticks: Rows = []
    for position, (name, by_trial) in enumerate(axes.items()):
        found = list(by_trial.values())
        is_number = all(isinstance(one, (int, float)) for one in found)
        place, shown = _of_numbers(found) if is_number and found else _of_words(found)
        ticks += [
            {"axis": name, "place": place(one), "text": f"{one:.3g}" if is_number else str(one)}
            for one in shown
        ]
        rows += [
            {
                "trial": trial,
                "axis": name,
                "position": position,
                "place": place(value),
                "rank": ranks[trial],
                "fifth": 1 + (5 * (ranks[trial] - 1)) // len(ranks),
            }
            for trial, value in by_trial.items()
        ]
    return rows, ticks


def _of_numbers(found: Sequence[float]) -> tuple[Callable[[Any], float], Sequence[float]]:
    """From a value to 0 to 1, and the values to write."""
    low, high, distinct = min(found), max(found), sorted(set(found))
    is_log = low > 0 and high / low >= _LOG_FROM

    def place(value: float) -> float:
        if high == low:
            return 0.5
        return math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)

    parts = (0.0, 0.25, 0.5, 0.75, 1.0)
    spread = [low * (high / low) ** part if is_log else low + part * (high - low) for part in parts]
    return place, distinct if len(distinct) <= _MOST_TICKS else spread


def _of_words(found: Sequence[Any]) -> tuple[Callable[[Any], float], Sequence[str]]:
    words = sorted({str(one) for one in found})

    def place(value: Any) -> float:
        return 0.5 if len(words) < 2 else words.index(str(value)) / (len(words) - 1)

    return place, words
