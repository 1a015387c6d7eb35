"""The answer, first: the configuration, its gain, how sure it is, what it cost, and what to do now."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from sweeper.recommend.certainty import confirmation_line, sure_line
from sweeper.recommend.report.html import code, escaped, paragraph, table
from sweeper.recommend.table import compact, summary_line
from sweeper.recommend.transfer import transfer_line
from sweeper.search import TrialState
from sweeper.space import value_text

if TYPE_CHECKING:
    from sweeper.recommend.gains import Gain
    from sweeper.recommend.report.material import Material
    from sweeper.space import Scalar

__all__ = ["answer_html", "cost_line", "gain_line", "how_sure_line", "next_step"]

_BY = {
    "fresh seeds": "95 %, paired runs under fresh seeds",
    "surrogate": "95 % by the spread of the surrogate, which is fitted to one run of each; none was repeated",
    "noise": "95 % by how far trials are from what the others say of them; none was repeated",
}


def answer_html(material: Material) -> str:
    """The section at the top of the page."""
    said, command = next_step(material)
    parts = [
        f'<p class="verdict">{escaped(_verdict(material))}</p>',
        _figures(material),
        _configuration(material),
    ]
    parts += [
        paragraph(how_sure_line(material)),
        paragraph(_proxy_line(material)),
        paragraph(cost_line(material)),
    ]
    parts += [paragraph(said), code(command, "Copy the command") if command else ""]
    return "".join(parts)


def next_step(material: Material) -> tuple[str, str]:
    """What to do next in a sentence, and the command for it; empty where there is none."""
    folder = shlex.quote(str(material.root))
    if material.state == "running":
        return (
            "the sweep is running and this page is written anew after each trial",
            f"sweeper status {folder}",
        )
    if material.state == "interrupted":
        return "the sweep was interrupted; it goes on where it was", f"sweeper resume {folder}"
    if material.state == "failed":
        return (
            "the sweep was ended by an error, told in logs/driver.log; once that is mended it goes on "
            "where it was",
            f"sweeper resume {folder}",
        )
    if material.best is None:
        return (
            f"no trial was trained to its end{_why(material)}; mend that, then start a sweep of another name",
            "",
        )
    config = shlex.quote(str(material.root / "best-config.yaml"))
    return "this command trains the configuration in full", f"sweeper train {config} --output-dir my-model"


def _why(material: Material) -> str:
    """What most trials failed of."""
    reasons = Counter(
        one.reason or "no reason was noted" for one in material.trials if one.state is TrialState.FAIL
    )
    if not reasons:
        return ""
    reason, count = reasons.most_common(1)[0]
    return f" ({count} of {len(material.trials)}: {reason})"


def how_sure_line(material: Material) -> str:
    """By replicates where there are some, else by the surrogate, else that nothing tells."""
    if material.best is None:
        return ""
    confirmed = confirmation_line(material.space, material.trials)
    sure = sure_line(material.space, material.trials)
    if confirmed or sure:
        told = [one for one in (confirmed, sure) if one]
        by = "" if confirmed else " (by the surrogate; no configuration was repeated)"
        return "; ".join(told) + by
    count = len(material.complete)
    return f"how sure this is cannot be told: {count} trials were trained to their end, and it takes 5"


def _proxy_line(material: Material) -> str:
    return transfer_line(material.space, material.trials) or ""


def cost_line(material: Material) -> str:
    """GPU hours, and money where a price is configured."""
    is_cpu = not material.space.closed.get("resources.gpus_per_rank")
    device = "hours of ranks on CPUs" if is_cpu else "GPU hours"
    said = f"the sweep took {material.gpu_hours:.3g} {device} of training in {len(material.trials)} trials"
    if material.spent_s is not None:
        said += f", {material.spent_s / 60:.3g} minutes in all"
    if material.money is not None:
        said += f", and cost {material.money:,.2f} at {material.price_per_hour:,.4g} an hour"
    return said


def gain_line(gain: Gain | None, what: str) -> str:
    """One gain with its interval, in words."""
    if gain is None:
        return ""
    percent = "" if gain.percent is None else f" ({gain.percent:+.1f} %)"
    said = f"{gain.measured:+.4g}{percent} better than {what} (trial {gain.over})"
    return f"{said}: {_interval(gain)}"


def _verdict(material: Material) -> str:
    line = summary_line(material.space, material.trials, untrained=material.untrained)
    return line[0].upper() + line[1:] + "."


def _figures(material: Material) -> str:
    """The three numbers that people look for."""
    best = material.best
    if best is None:
        return ""
    objective = "" if best.final_value is None else f"{best.final_value:.4g}"
    cells = [(material.metric, objective, f"trial {best.number} of {len(material.asked)}")]
    for gain, what in ((material.over_default, "the default"), (material.over_median, "the median trial")):
        if gain is not None:
            percent = f"{gain.measured:.3g}" if gain.percent is None else f"{gain.percent:.1f} %"
            cells.append((f"better than {what}", percent, _interval(gain)))
    inside = "".join(
        f"<div><dt>{escaped(name)}</dt><dd><b>{escaped(value)}</b><span>{escaped(more)}</span></dd></div>"
        for name, value, more in cells
    )
    return f'<dl class="figures">{inside}</dl>'


def _interval(gain: Gain) -> str:
    if gain.interval is None:
        return "no interval: too few trials, or they do not predict each other"
    low, high = f"{gain.interval.low:+.2g}", f"{gain.interval.high:+.2g}"
    return f"{gain.measured:+.3g}; interval {low} to {high} ({_BY[gain.by]})"


def _configuration(material: Material) -> str:
    """What was searched; what differs from the default stands out."""
    if material.best is None:
        return ""
    values, usual = material.best.values, material.space.default_values()
    rows = []
    for one in material.space.dimensions:
        value, default = values.get(one.name), usual.get(one.name)
        shown = escaped(_text(value))
        differs = value != default
        rows.append(
            (
                f"<code>{escaped(one.path)}</code>",
                f"<strong>{shown}</strong>" if differs else f'<span class="same">{shown}</span>',
                f'<span class="same">{escaped(_text(default)) if differs else "the same"}</span>',
            )
        )
    if not rows:
        return ""
    return table(
        ("field", "value", "default"), rows, "The configuration: what differs from the default is bold"
    )


def _text(value: Scalar | None) -> str:
    return (
        "not in use" if value is None else compact(value) if isinstance(value, float) else value_text(value)
    )
