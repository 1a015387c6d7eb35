"""The pictures of a comparison: where each sweep has its best rate, and what its answer costs elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sweeper.recommend.compare.comparison import Comparison
from sweeper.recommend.compare.settings import LR_RATIO
from sweeper.recommend.compare.side import LR, SweepSide
from sweeper.recommend.report.charts import SERIES, Drawing, drawing
from sweeper.recommend.report.datasets import Rows
from sweeper.recommend.table import compact
from sweeper.space import LogUniform

__all__ = ["carried", "rates", "swaps"]

_POINTS = 61
_ROW_PX = 17


def rates(found: Comparison) -> Iterator[Drawing]:
    """The learning rate against how far a trial lies behind its own sweep's best; by its ratio to the rule
    of thumb as well, where the rules differ."""
    sides = [one for one in found.sides if one.lr is not None and one.best_value]
    if len(sides) < 2:
        return
    yield _rates(sides, "lr", "learning rate", {one.label: 1.0 for one in sides})
    if any(one.path == LR_RATIO for one in found.settings):
        rules = {one.label: one.rule_lr for one in sides}
        yield _rates(sides, "ratio", "learning rate / rule of thumb", rules)


def _rates(sides: list[SweepSide], key: str, label: str, unit: dict[str, float]) -> Drawing:
    import altair as alt

    tried = [row for one in sides for row in _tried(one, unit[one.label])]
    fitted = [row for one in sides for row in _fitted(one, unit[one.label])]
    color = alt.Color("sweep:N", title="sweep", scale=_colors(sides))
    x = alt.X(
        "x:Q",
        title=label,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(format="~e" if key == "lr" else "~g", labelOverlap="greedy", tickCount=6),
    )
    # A diverging trial would flatten all others: linear to one per cent, logarithmic above.
    y = alt.Y(
        "behind:Q",
        title="% behind its sweep's best",
        scale=alt.Scale(type="symlog", constant=1),
        axis=alt.Axis(values=[0, 1, 3, 10, 30, 100, 300, 1000], format=",d"),
    )
    points = (
        alt.Chart(alt.NamedData("tried"))
        .mark_point(filled=True, size=45, opacity=0.75)
        .encode(x=x, y=y, color=color, tooltip=["sweep:N", "trial:N", "lr:Q", "behind:Q"])
    )
    best = (
        alt.Chart(alt.NamedData("tried"))
        .transform_filter(alt.datum.best)
        .mark_point(size=190, strokeWidth=2.5)
        .encode(x=x, y=y, color=color)
    )
    lines = (
        alt.Chart(alt.NamedData("fitted"))
        .mark_line(strokeWidth=1.5, strokeDash=[4, 3], opacity=0.8)
        .encode(x=x, y=y, color=color)
    )
    where = ", ".join(
        f"{one.label}: {compact((one.lr or 0.0) / unit[one.label])}" for one in sides if one.lr is not None
    )
    return drawing(
        alt.layer(lines, points, best).properties(width="container", height=300),
        title=f"{label.capitalize()} in each sweep",
        said=f"every complete trial by its {label}, and how far it lies behind the best of its own sweep; "
        f"rings are the best trials ({where})"
        + ("; dashed: what the surrogate makes of it, all else as in the best trial" if fitted else ""),
        tried=tried,
        fitted=fitted,
    )


def _tried(side: SweepSide, unit: float) -> Iterator[dict[str, Any]]:
    dimension = side.space.dimension(LR)
    assert dimension is not None
    for one in side.material.complete:
        rate = float(one.values[dimension.name])
        yield {
            "sweep": side.label,
            "trial": one.number,
            "lr": rate,
            "x": rate / unit,
            "behind": max(side.percent_behind(one.final_value or 0.0), 0.0),
            "best": one.number == side.best.number,
        }


def _fitted(side: SweepSide, unit: float) -> Rows:
    """What the surrogate says along the learning rate, from the least that it says anywhere there."""
    dimension, surface = side.space.dimension(LR), side.material.surface
    if dimension is None or surface is None or not surface.tells:
        return []
    value = dimension.open_value
    if not isinstance(value, LogUniform):
        return []
    tried = np.geomspace(value.low, value.high, _POINTS).tolist()
    mean, _ = surface.predict([{**side.best.values, dimension.name: one} for one in tried])
    signed = side.sign * np.asarray(mean)
    behind = 100 * (signed - signed.min()) / abs(side.best_value)
    return [
        {"sweep": side.label, "x": rate / unit, "behind": float(percent)}
        for rate, percent in zip(tried, behind, strict=True)
    ]


def _colors(sides: list[SweepSide]) -> Any:
    import altair as alt

    return alt.Scale(
        domain=[one.label for one in sides], range=[SERIES[i % len(SERIES)] for i in range(len(sides))]
    )


def carried(found: Comparison) -> Drawing | None:
    """Each sweep's whole best configuration in each other one, as a map of what it costs there."""
    import altair as alt

    if any(one.as_it_is.percent is None for one in found.transfers):
        return None
    rows: Rows = [
        {"from": one.source, "into": one.target, "worse": percent, "text": f"{percent:+.2g} %"}
        for one in found.transfers
        if (percent := one.as_it_is.percent) is not None
    ]
    order = [one.label for one in found.sides]
    base = alt.Chart(alt.NamedData("carried")).encode(
        x=alt.X("into:N", title="carried into", sort=order, axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("from:N", title="best of", sort=order),
    )
    worst = max(1.0, *(float(row["worse"]) for row in rows))
    cells = base.mark_rect(color=SERIES[1]).encode(
        opacity=alt.Opacity(
            "worse:Q", legend=None, scale=alt.Scale(domain=[0, worst], range=[0.06, 0.6], clamp=True)
        )
    )
    written = base.mark_text(fontSize=13).encode(text="text:N")
    return drawing(
        alt.layer(cells, written).properties(width="container", height=max(110, 44 * len(order))),
        title="Whole configurations carried over",
        said="how much worse than the best of its own a sweep does with the best configuration of another: "
        + ", ".join(f"{row['from']} in {row['into']} {row['text']}" for row in rows[:12]),
        carried=rows,
    )


def swaps(found: Comparison) -> Drawing | None:
    """One value carried over alone, with 95 % of what it costs."""
    import altair as alt

    best = {one.label: abs(one.best_value) for one in found.sides}
    rows: Rows = [
        {
            "what": f"{one.path.removeprefix('training.')} of {swap.source} in {swap.target}",
            "worse": 100 * swap.worse / best[swap.target],
            "low": 100 * (swap.worse if swap.low is None else swap.low) / best[swap.target],
            "high": 100 * (swap.worse if swap.high is None else swap.high) / best[swap.target],
            "verdict": one.verdict,
        }
        for one in found.settings
        for swap in one.swaps
        if swap.worse is not None and best[swap.target]
    ]
    if not rows:
        return None
    words = ["carries over", "not clear", "does not carry over"]
    colors = alt.Scale(domain=words, range=["var(--c3)", "var(--c1)", "var(--c2)"])
    axis = alt.Axis(labelLimit=260)
    base = alt.Chart(alt.NamedData("swaps")).encode(
        y=alt.Y("what:N", title=None, sort=None, axis=axis),
        color=alt.Color("verdict:N", title="the setting", scale=colors),
        tooltip=["what:N", "worse:Q", "low:Q", "high:Q"],
    )
    title = "% worse than the best there"
    lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    points = base.mark_point(filled=True, size=60).encode(x=alt.X("worse:Q", title=title))
    zero = alt.Chart(alt.NamedData("zero")).mark_rule(color="var(--ink2)", strokeDash=[2, 2]).encode(x="x:Q")
    return drawing(
        alt.layer(zero, lines, points).properties(width="container", height=_ROW_PX * len(rows) + 10),
        title="One value carried over alone",
        said="what the best configuration of a sweep loses when one of its values is the other sweep's; "
        "lines are 95 % of the surrogate's spread",
        is_wide=True,
        swaps=rows,
        zero=[{"x": 0.0}],
    )
