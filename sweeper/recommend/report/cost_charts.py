"""What the sweep cost: the front, workers and their idle time, tokens, memory; and the rows' lengths."""

from __future__ import annotations

from sweeper.recommend.peaks import memory_line, peak_of
from sweeper.recommend.ranking import tokens_seen
from sweeper.recommend.report.charts import SERIES, Drawing, drawing, said_of, value_axis
from sweeper.recommend.report.datasets import Rows
from sweeper.recommend.report.material import Material
from sweeper.recommend.report.timeline import idle_share, stretches
from sweeper.search import TrialState

__all__ = ["lengths", "memory", "pareto", "timeline", "tokens"]


def pareto(material: Material) -> Drawing | None:
    """The objective against what a trial costs, with the front."""
    import altair as alt

    if len(material.complete) < 2:
        return None
    also = material.space.settings.objective.also or "gpu_seconds"
    base = alt.Chart(alt.NamedData("trials")).transform_filter(
        "datum.state === 'complete' && isValid(datum.cost)"
    )
    x = alt.X("cost:Q", title=also, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(format="~s"))
    y = value_axis(material, [one.final_value or 0.0 for one in material.complete])
    told = ["trial:N", "cost:Q", "value:Q", "chosen:N"]
    front = base.transform_filter(alt.datum.front).mark_line(
        interpolate="step-after", color=SERIES[1], strokeWidth=2
    )
    return drawing(
        alt.layer(
            front.encode(x=x, y=y, order="cost:Q"),
            base.mark_point(filled=True, size=55, opacity=0.9).encode(
                x=x,
                y=y,
                tooltip=told,
                color=alt.condition(alt.datum.front, alt.value(SERIES[1]), alt.value(SERIES[0])),
            ),
        ).properties(width="container", height=280),
        title=f"{material.metric} and {also}",
        said=f"the complete trials by {also} and {material.metric}; the line is the Pareto front: nothing is "
        "better in both",
    )


def timeline(material: Material) -> Drawing | None:
    """Which worker trained which trial when; what is empty between is idle."""
    import altair as alt

    found = stretches(material.trials)
    if not found:
        return None
    workers, whole_s = max(one.worker for one in found), max(one.end_s for one in found)
    bars = (
        alt.Chart(alt.NamedData("timeline"))
        .transform_calculate(start="datum.start_s / 60", end="datum.end_s / 60")
        .mark_bar(stroke="var(--paper)", strokeWidth=1.5, height={"band": 0.8})
        .encode(
            x=alt.X("start:Q", title="minutes since the first trial began"),
            x2="end:Q",
            y=alt.Y("worker:O", title="worker"),
            color=alt.condition("datum.trial % 2 == 0", alt.value(SERIES[0]), alt.value(SERIES[1])),
            tooltip=[
                "trial:N",
                "worker:O",
                alt.Tooltip("start:Q", format=".2f"),
                alt.Tooltip("end:Q", format=".2f"),
            ],
        )
        .properties(width="container", height=max(36 * workers, 80))
    )
    return drawing(
        bars,
        title="Who trained what when",
        said=f"{said_of(workers, 'worker')} over {whole_s / 60:.1f} minutes, idle for "
        f"{idle_share(found):.0%} of it: between trials, or with nothing to train",
        is_wide=True,
    )


def tokens(material: Material) -> Drawing | None:
    """Tokens trained, taken over, and not trained because trials were stopped or paused."""
    import altair as alt

    taken = sum(one.saved_tokens for one in material.trials)
    trained = sum(tokens_seen(one) for one in material.trials) - taken
    left = sum(
        max(int(one.attributes.get("total_tokens") or 0) - tokens_seen(one), 0)
        for one in material.trials
        if one.state in (TrialState.PAUSED, TrialState.PRUNED)
    )
    if not trained:
        return None
    rows: Rows = [
        {"what": "trained", "tokens": trained},
        {"what": "taken over", "tokens": taken},
        {"what": "stopped, paused", "tokens": left},
    ]
    whole = trained + taken + left
    bars = (
        alt.Chart(alt.NamedData("tokens"))
        .mark_bar(height=20)
        .encode(
            x=alt.X("tokens:Q", title="training tokens", axis=alt.Axis(format="~s")),
            y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=150)),
            color=alt.Color(
                "what:N", legend=None, scale=alt.Scale(range=SERIES, domain=[one["what"] for one in rows])
            ),
            tooltip=["what:N", alt.Tooltip("tokens:Q", format=",")],
        )
        .properties(width="container", height=110)
    )
    return drawing(
        bars,
        title="Tokens trained and saved",
        said=f"of {whole:,} tokens that all trials come to, {trained:,} were trained, {taken:,} "
        f"({taken / whole:.0%}) taken over from trials that are the same up to there, {left:,} "
        f"({left / whole:.0%}) left out by stopping and pausing",
        tokens=rows,
    )


def memory(material: Material) -> Drawing | None:
    """The predicted peak of each trial against the measured one."""
    import altair as alt

    line = memory_line(material.trials)
    if line is None:
        return None
    peaks = [peak_of(one) for one in material.asked]
    known = [one for peak in peaks for one in (peak.predicted_gib, peak.measured_gib) if one is not None]
    ends: Rows = [{"at": min(known)}, {"at": max(known)}]
    free = alt.Scale(zero=False, padding=10)
    points = (
        alt.Chart(alt.NamedData("trials"))
        .transform_filter("isValid(datum.predicted) && isValid(datum.measured)")
        .mark_point(filled=True, size=55, color=SERIES[0], opacity=0.8)
        .encode(
            x=alt.X("predicted:Q", title="predicted, GiB", scale=free),
            y=alt.Y("measured:Q", title="measured, GiB", scale=free),
            tooltip=["trial:N", "predicted:Q", "measured:Q"],
        )
    )
    same = (
        alt.Chart(alt.NamedData("same"))
        .mark_line(color="var(--ink2)", strokeDash=[4, 3])
        .encode(x="at:Q", y="at:Q")
    )
    return drawing(
        alt.layer(same, points).properties(width="container", height=240),
        title="Memory of a rank",
        said=f"{line}; on the dashed line the prediction is exact",
        same=ends,
    )


def lengths(material: Material) -> Drawing | None:
    """How long the training rows are."""
    import altair as alt

    if not material.lengths:
        return None
    bars = (
        alt.Chart(alt.NamedData("lengths"))
        .mark_bar(color=SERIES[0], stroke="var(--paper)", strokeWidth=0.5)
        .encode(
            x=alt.X("from:Q", title="tokens of a row", bin="binned", axis=alt.Axis(format="d")),
            x2="to:Q",
            y=alt.Y("rows:Q", title="rows"),
            tooltip=["from:Q", "to:Q", "rows:Q"],
        )
        .properties(width="container", height=220)
    )
    ordered = sorted(material.lengths)
    middle, most = ordered[len(ordered) // 2], ordered[-1]
    return drawing(
        bars,
        title="Lengths of the rows",
        said=f"{said_of(len(ordered), 'training row')} of {ordered[0]:,} to {most:,} tokens, half of "
        f"them up to {middle:,}",
    )
