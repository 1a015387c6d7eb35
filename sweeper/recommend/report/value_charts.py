"""What the searched values did: against the objective, compared, and how much each matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.recommend.report.charts import SERIES, Drawing, axis_of, drawing, said_of, value_axis
from sweeper.recommend.report.datasets import Rows, column
from sweeper.recommend.report.material import Material, plain
from sweeper.recommend.table import compact
from sweeper.space import Choice, IntRange, LogUniform

if TYPE_CHECKING:
    from sweeper.space import Dimension, Scalar

__all__ = ["FEW", "against", "compared", "contour", "importance", "two_that_matter"]

FEW = 30
"""With fewer complete trials the importances are told with a caveat."""
_BAND, _GRID = 60, 28


def against(material: Material, name: str) -> Drawing | None:
    """One value against the objective, by scheduler where that is searched; with the surrogate's band, which
    has the chosen trial's values in everything else."""
    import altair as alt

    dimension = material.space.dimension(name)
    if dimension is None or not material.judged:
        return None
    base = alt.Chart(alt.NamedData("trials")).transform_filter(alt.datum.state == _state(material))
    told = _told(material)
    points = base.mark_point(
        filled=True, size=60, opacity=0.9, stroke="var(--paper)", strokeWidth=0.7
    ).encode(
        x=axis_of(material, dimension), y=_axis(material), tooltip=told, color=_by_scheduler(material, name)
    )
    marked = base.transform_filter(alt.datum.chosen == "chosen").mark_point(
        size=190, strokeWidth=2.5, color="var(--ink)"
    )
    marked = marked.encode(x=axis_of(material, dimension), y=_axis(material), tooltip=told)
    band = _band(material, dimension)
    layers = [points, marked]
    if band:
        x = axis_of(material, dimension)
        drawn = alt.Chart(alt.NamedData("band")).encode(x=x)
        if isinstance(dimension.open_value, Choice):
            spread = drawn.mark_bar(color="var(--band)", opacity=0.7, width=34)
            middle = drawn.mark_tick(color="var(--ink2)", width=34, thickness=2)
        else:
            spread = drawn.mark_area(color="var(--band)", opacity=0.55)
            middle = drawn.mark_line(color="var(--ink2)", strokeDash=[4, 3], strokeWidth=1.5)
        layers = [spread.encode(y="low:Q", y2="high:Q"), middle.encode(y="value:Q"), *layers]
    label = material.label(name)
    ring = "" if material.judges_by_proxy else "; the ring is the chosen trial"
    more = "; the band holds the surrogate's mean with 95 %, all else as in the chosen trial" if band else ""
    return drawing(
        alt.layer(*layers).properties(width="container", height=280),
        title=f"{label} against {material.metric}",
        said=f"{_trials(material)} by {label}{more}{ring}",
        band=band,
    )


def compared(material: Material, name: str) -> Drawing | None:
    """The results under each option of a list, their median, and how many there are."""
    import altair as alt

    dimension = material.space.dimension(name)
    if dimension is None or not material.judged:
        return None
    key = column(material, name)
    counts: dict[Any, list[float]] = {}
    for one in material.judged:
        if name in one.values:
            counts.setdefault(plain(one.values[name]), []).append(one.final_value or 0.0)
    if len(counts) < 2:
        return None
    rows = [
        {key: option, "value": sorted(values)[(len(values) - 1) // 2], "text": f"n = {len(values)}"}
        for option, values in sorted(counts.items(), key=lambda one: (isinstance(one[0], str), one[0]))
    ]
    x = axis_of(material, dimension)
    base = alt.Chart(alt.NamedData("trials")).transform_filter(alt.datum.state == _state(material))
    points = base.mark_point(filled=True, size=45, opacity=0.6, color=SERIES[0]).encode(
        x=x, y=_axis(material), tooltip=_told(material)
    )
    middle = alt.Chart(alt.NamedData("medians")).encode(x=x)
    ticks = middle.mark_tick(thickness=3, width=34, color="var(--ink)").encode(
        y=_axis(material),
        tooltip=[alt.Tooltip("value:Q", title="median"), alt.Tooltip("text:N", title="trials")],
    )
    written = middle.mark_text(color="var(--ink2)", fontSize=11, baseline="bottom").encode(
        y=alt.value(-4), text="text:N"
    )
    label = material.label(name)
    return drawing(
        alt.layer(points, ticks, written).properties(width="container", height=240),
        title=f"{label} compared",
        said=f"{material.metric} of {_trials(material)} under each {label}, with their median: "
        + ", ".join(f"{compact(one[key])}: {one['value']:.4g} ({one['text']})" for one in rows),
        medians=rows,
    )


def importance(material: Material) -> Drawing | None:
    """How much of the difference between good trials and others each value explains."""
    import altair as alt

    found = material.importances
    if not found:
        return None
    rows = [{"what": material.label(name), "part": part} for name, part in found.items()]
    bars = (
        alt.Chart(alt.NamedData("importance"))
        .mark_bar(color=SERIES[0], height=18)
        .encode(
            x=alt.X(
                "part:Q",
                title="part of the importance",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=alt.Y("what:N", title=None, sort=[one["what"] for one in rows]),
            tooltip=["what:N", alt.Tooltip("part:Q", format=".1%")],
        )
        .properties(width="container", height=34 * len(rows))
    )
    count = len(material.judged)
    few = (
        f"; of {count} complete trials it is rough, and another {FEW - count} may change the order"
        if count < FEW
        else ""
    )
    return drawing(
        bars,
        title="What matters",
        said=f"importance by PED-ANOVA over {_trials(material)}: "
        + ", ".join(f"{one['what']} {one['part']:.0%}" for one in rows)
        + few,
        importance=rows,
    )


def two_that_matter(material: Material) -> list[str]:
    """Names of the two most important values; where importance is not known, the first two."""
    names = list(material.importances) or [one.name for one in material.space.dimensions]
    return names[:2]


def contour(material: Material) -> Drawing | None:
    """The surrogate's mean over the two values that matter most, all else as in the chosen trial."""
    import altair as alt

    names = two_that_matter(material)
    surface, best = material.shape, material.best
    if surface is None or best is None or len(names) < 2:
        return None
    first, second = (material.dimension(name) for name in names)
    if first is None or second is None:
        return None
    xs, ys = _steps(first, _GRID), _steps(second, _GRID)
    grid = [{**best.values, first.name: x, second.name: y} for x, _, _ in xs for y, _, _ in ys]
    mean, _ = surface.predict(grid)
    rows: Rows = []
    for place, value in enumerate(mean.tolist()):
        (x, x1, x2), (y, y1, y2) = xs[place // len(ys)], ys[place % len(ys)]
        rows.append({"x": plain(x), "x1": x1, "x2": x2, "y": plain(y), "y1": y1, "y2": y2, "value": value})
    low_is_good = material.space.settings.objective.mode == "min"
    colour = alt.Color(
        "value:Q",
        title=material.metric,
        scale=alt.Scale(scheme="viridis", reverse=not low_is_good),
        legend=alt.Legend(gradientLength=160, format="~g"),
    )
    encoding = {**_sides("x", first, material), **_sides("y", second, material)}
    field = (
        alt.Chart(alt.NamedData("grid"))
        .mark_rect()
        .encode(color=colour, tooltip=[alt.Tooltip("value:Q", format=".4g")], **encoding)
    )
    points = (
        alt.Chart(alt.NamedData("trials"))
        .transform_filter(alt.datum.state == _state(material))
        .mark_point(filled=True, size=50, color="#ffffff", stroke="#000000", strokeWidth=1.2, opacity=1)
        .encode(
            x=_place("x", first, column(material, first.name), material),
            y=_place("y", second, column(material, second.name), material),
            tooltip=_told(material),
        )
    )
    labels = [material.label(one.name) for one in (first, second)]
    return drawing(
        alt.layer(field, points).properties(width="container", height=280),
        title=f"{labels[0]} and {labels[1]} together",
        said=f"the surrogate's mean of {material.metric} over {labels[0]} and {labels[1]}, all else as in "
        "the chosen trial; points are the complete trials",
        grid=rows,
    )


def _band(material: Material, dimension: Dimension) -> Rows:
    """The surrogate's mean and its 95 % along one range."""
    asked = material.dimension(dimension.name)
    if material.shape is None or material.best is None or asked is None:
        return []
    if dimension.name not in material.best.values:
        return []
    key = column(material, dimension.name)
    steps = [value for value, _, _ in _steps(asked, _BAND)]
    mean, deviation = material.shape.predict([{**material.best.values, asked.name: one} for one in steps])
    return [
        {key: plain(value), "value": float(m), "low": float(m - 1.96 * s), "high": float(m + 1.96 * s)}
        for value, m, s in zip(steps, mean, deviation, strict=True)
    ]


def _steps(dimension: Dimension, count: int) -> list[tuple[Scalar, Any, Any]]:
    """Values along a dimension, each with the ends of its cell; options of a list have none."""
    value = dimension.open_value
    if isinstance(value, Choice):
        return [(option, None, None) for option in value.options]
    low, high = float(value.low), float(value.high)
    is_log = isinstance(value, LogUniform)

    def at(part: float) -> float:
        return low * (high / low) ** part if is_log else low + part * (high - low)

    found: list[tuple[Scalar, Any, Any]] = []
    for place in range(count):
        middle: Scalar = at((place + 0.5) / count)
        if isinstance(value, IntRange):
            middle = value.low + round((float(middle) - value.low) / value.step) * value.step
        found.append((middle, at(place / count), at((place + 1) / count)))
    return found


def _sides(side: str, dimension: Dimension, material: Material) -> dict[str, Any]:
    import altair as alt

    if isinstance(dimension.open_value, Choice):
        return {side: _place(side, dimension, side, material)}
    ends = {"x": (alt.X2, "x1", "x2"), "y": (alt.Y2, "y1", "y2")}[side]
    return {side: _place(side, dimension, ends[1], material), f"{side}2": ends[0](ends[2])}


def _place(side: str, dimension: Dimension, key: str, material: Material) -> Any:
    import altair as alt

    channel = alt.X if side == "x" else alt.Y
    title, value = material.label(dimension.name), dimension.open_value
    if isinstance(value, Choice):
        options = [plain(one) for one in value.options]
        return channel(f"{key}:O", title=title, scale=alt.Scale(domain=options), axis=alt.Axis(labelAngle=0))
    kind = "log" if isinstance(value, LogUniform) else "linear"
    scale = alt.Scale(type=kind, domain=[float(value.low), float(value.high)], nice=False)
    form = "~e" if kind == "log" else "~g"
    axis = alt.Axis(format=form, labelOverlap="greedy", tickCount=6)
    return channel(f"{key}:Q", title=title, scale=scale, axis=axis)


def _state(material: Material) -> str:
    return "on the proxy" if material.judges_by_proxy else "complete"


def _trials(material: Material) -> str:
    where = " on the proxy" if material.judges_by_proxy else ""
    return f"{said_of(len(material.judged), 'complete trial')}{where}"


def _axis(material: Material) -> Any:
    return value_axis(material, [one.final_value or 0.0 for one in material.judged])


def _by_scheduler(material: Material, name: str) -> Any:
    import altair as alt

    scheduler = material.space.dimension("scheduler")
    if scheduler is None or name == "scheduler":
        return alt.value(SERIES[0])
    key = column(material, "scheduler")
    used = sorted({str(one.values["scheduler"]) for one in material.judged if "scheduler" in one.values})
    scale = alt.Scale(domain=used, range=SERIES[: len(used)])
    return alt.Color(
        f"{key}:N", title=material.label("scheduler"), scale=scale, legend=alt.Legend(orient="top")
    )


def _told(material: Material) -> list[Any]:
    """What stands under the pointer."""
    import altair as alt

    searched = [
        alt.Tooltip(f"{column(material, one.name)}:N", title=material.label(one.name))
        for one in material.space.dimensions
    ]
    return [alt.Tooltip("trial:N"), alt.Tooltip("value:Q", title=material.metric, format=".5g"), *searched]
