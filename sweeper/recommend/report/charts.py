"""What all charts of a report share, and the curves of its trials. Every function gives a Vega-Lite
specification whose data is a name of ``datasets``.

Colours are CSS variables of the page: light, dark and print need no second drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.recommend.report.datasets import Rows, column
from sweeper.recommend.report.material import Material, plain
from sweeper.space import Choice, LogUniform

if TYPE_CHECKING:
    import altair as alt

    from sweeper.space import Dimension

__all__ = ["SERIES", "Drawing", "axis_of", "curves", "drawing", "progress", "said_of", "value_axis"]

SERIES = [f"var(--c{index})" for index in range(1, 8)]
_ENDS = {
    "complete": "var(--c1)",
    "paused": "var(--c3)",
    "stopped": "var(--c2)",
    "failed": "var(--c4)",
    "on the proxy": "var(--c7)",
}
_SHAPES = {
    "complete": "circle",
    "paused": "square",
    "stopped": "triangle-down",
    "failed": "cross",
    "on the proxy": "diamond",
}
_HEIGHT = 280


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One chart of the page."""

    title: str
    said: str
    """What it shows, in a sentence: also what a screen reader says."""
    chart: dict[str, Any]
    data: dict[str, Rows]
    """Rows of its own, beside the common ones."""
    is_wide: bool = False


def drawing(
    chart: alt.TopLevelMixin,
    *,
    title: str,
    said: str,
    is_wide: bool = False,
    **data: Rows,
) -> Drawing:
    """Without Altair's own theme; the specifications are checked by the tests and not again."""
    tree = chart.to_dict(validate=False)
    tree.pop("config", None)
    return Drawing(title=title, said=said, chart=tree, data=data, is_wide=is_wide)


def value_axis(material: Material, values: Sequence[float]) -> Any:
    """The vertical axis of the objective: logarithmic where a few bad trials would flatten the rest."""
    import altair as alt

    positive = bool(values) and min(values) > 0 and max(values) / min(values) > 3.0
    scale = alt.Scale(type="log", nice=False, padding=8) if positive else alt.Scale(zero=False)
    return alt.Y("value:Q", title=material.metric, scale=scale, axis=alt.Axis(format="~g"))


def _ordered(dimension: Dimension) -> list[str | float]:
    """The options of a list in their order."""
    value = dimension.open_value
    options = [plain(one) for one in value.options] if isinstance(value, Choice) else []
    return [one for one in options if one is not None]


def said_of(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def curves(material: Material) -> Drawing | None:
    """Held-out curves on the axis of training tokens, and how each ended."""
    import altair as alt

    values = [
        value
        for one in material.asked
        for evaluation in one.evaluations
        if (value := evaluation.metrics.get(material.metric)) is not None
    ]
    if not values:
        return None
    how = alt.Color("state:N", title="ended", scale=_scale(_ENDS))
    told = [alt.Tooltip(name) for name in ("trial:N", "state:N", "why:N", "tokens:Q", "value:Q")]
    base = alt.Chart(alt.NamedData("curves")).encode(
        x=alt.X("tokens:Q", title="training tokens", axis=alt.Axis(format="~s")),
        y=value_axis(material, [one for one in values if one == one]),
    )
    lines = base.mark_line(strokeWidth=1.2, opacity=0.55).encode(
        color=how, detail="trial:N", tooltip=told[:3]
    )
    marked = alt.datum.chosen == "chosen"
    chosen = base.transform_filter(marked).mark_line(strokeWidth=3, color="var(--ink)")
    ends = (
        base.transform_filter(alt.datum.last)
        .mark_point(filled=True, size=55, opacity=1)
        .encode(color=how, shape=alt.Shape("state:N", title="ended", scale=_scale(_SHAPES)), tooltip=told)
    )
    stopped = sum(one.state.value in ("PAUSED", "PRUNED") for one in material.asked)
    return drawing(
        _sized(alt.layer(lines, chosen, ends)),
        title="Held-out curves",
        said=f"{material.metric} of {said_of(len(material.asked), 'trial')} over training tokens; {stopped} "
        "were paused or stopped (the mark at a curve's end says why); the thick line is the chosen trial",
        is_wide=True,
    )


def progress(material: Material) -> list[Drawing]:
    """The best so far against what it had taken, with the default's line."""
    import altair as alt

    if not material.complete:
        return []
    default = material.default
    base = alt.Chart(alt.NamedData("progress"))
    drawn = []
    for name, words in (("trials", "trials begun"), ("tokens", "training tokens"), ("hours", "hours")):
        if name == "hours" and all(one.started_s is None for one in material.asked):
            continue
        x = alt.X(f"{name}:Q", title=words, axis=alt.Axis(format="~s" if name == "tokens" else "~g"))
        y = alt.Y(
            "value:Q",
            title=f"best {material.metric}",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format="~g"),
        )
        told = [alt.Tooltip(f"{one}:Q") for one in ("trials", "tokens", "hours", "trial", "value")]
        steps = base.mark_line(interpolate="step-after", color=SERIES[0], strokeWidth=2).encode(x=x, y=y)
        points = base.mark_point(filled=True, color=SERIES[0], size=40, opacity=1).encode(
            x=x, y=y, tooltip=told
        )
        layers, rows = [steps, points], []
        if default is not None and default.final_value is not None:
            rows = [{"value": default.final_value, "what": "default"}]
            line = alt.Chart(alt.NamedData("default")).encode(y="value:Q", tooltip=["what:N", "value:Q"])
            layers.append(line.mark_rule(strokeDash=[5, 4], color="var(--ink)", strokeWidth=1.5))
        drawn.append(
            drawing(
                _sized(alt.layer(*layers), height=220),
                title=f"Best so far, by {words}",
                said=f"the best {material.metric} after each of {len(material.complete)} trials that were "
                f"trained to their end, by {words}; the dashed line is the default configuration",
                default=rows,
            )
        )
    return drawn


def _scale(by_word: dict[str, str]) -> Any:
    import altair as alt

    return alt.Scale(domain=list(by_word), range=list(by_word.values()))


def _sized(chart: Any, height: int = _HEIGHT) -> Any:
    return chart.properties(width="container", height=height)


def axis_of(material: Material, dimension: Dimension) -> Any:
    """The horizontal axis of a searched value."""
    import altair as alt

    key, title = column(material, dimension.name), material.label(dimension.name)
    if isinstance(dimension.open_value, Choice):
        scale = alt.Scale(domain=_ordered(dimension))
        return alt.X(f"{key}:O", title=title, scale=scale, axis=alt.Axis(labelAngle=0))
    is_log = isinstance(dimension.open_value, LogUniform)
    scale = alt.Scale(type="log", nice=False, padding=12) if is_log else alt.Scale(zero=False, padding=12)
    axis = alt.Axis(format="~e" if is_log else "~g", labelOverlap="greedy", tickCount=6)
    return alt.X(f"{key}:Q", title=title, scale=scale, axis=axis)
