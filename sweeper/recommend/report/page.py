"""The page: one file that asks nothing of any server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sweeper.recommend.report import cost_charts, value_charts
from sweeper.recommend.report.answer import answer_html, next_step
from sweeper.recommend.report.charts import Drawing, curves, progress
from sweeper.recommend.report.datasets import Rows, datasets
from sweeper.recommend.report.html import escaped, items, paragraph, sentence, struck
from sweeper.recommend.report.material import Material
from sweeper.recommend.report.parallel import parallel
from sweeper.recommend.report.trials import failures_html, trials_html
from sweeper.space import Choice, count_trials

__all__ = ["drawings", "report_html"]

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
)
"""The browser itself refuses every request. Vega compiles its expressions, which takes unsafe-eval."""
_COMPARED = ("scheduler", "epochs", "gradient_accumulation_steps")
_SIGNIFICANT = 7


@dataclass(frozen=True, kw_only=True)
class _Section:
    key: str
    title: str
    drawings: list[Drawing]
    html: str = ""


def report_html(material: Material, script: str) -> str:
    """The whole page; ``script`` is Vega with vega-embed, as ``vl_convert.javascript_bundle()`` gives it.

    Raises ImportError where Altair is missing.
    """
    sections = _sections(material)
    told: dict[str, Any] = {"data": {name: _columns(rows) for name, rows in datasets(material).items()}}
    told["charts"] = [
        {"spec": one.chart, "data": {name: _columns(rows) for name, rows in one.data.items()}}
        for section in sections
        for one in section.drawings
    ]
    body, place = [], 0
    for section in sections:
        figures = []
        for one in section.drawings:
            figures.append(_figure(one, place))
            place += 1
        inside = f'<div class="charts">{"".join(figures)}</div>' if figures else ""
        body.append(
            f'<section id="{section.key}"><h2>{escaped(section.title)}</h2>{section.html}{inside}</section>'
        )
    links = "".join(f'<a href="#{one.key}">{escaped(one.title)}</a>' for one in sections)
    said, command = next_step(material)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(material.space.name)}: report of a sweep</title>
<link rel="icon" href="data:,">
<style>{_file("page.css")}</style>
</head>
<body>
<a class="skip" href="#answer">To the answer</a>
<header><h1>{escaped(material.space.name)}</h1>
<p>{escaped(_subtitle(material))}</p></header>
<nav aria-label="Sections">{links}</nav>
<main>
<section id="answer"><h2>The answer</h2>{answer_html(material)}</section>
{"".join(body)}
</main>
<footer><p>Next: {escaped(said)}{": " if command else "."}<code>{escaped(command)}</code></p></footer>
<div id="said" role="status" aria-live="polite"></div>
<script type="application/json" id="material">{_json(told)}</script>
<script>{_inside(script)}</script>
<script>{_file("page.js")}</script>
</body>
</html>
"""


def drawings(material: Material) -> list[Drawing]:
    """All charts of the page, in their order."""
    return [one for section in _sections(material) for one in section.drawings]


def _sections(material: Material) -> list[_Section]:
    """The evidence; a section with nothing to show is left out."""
    names = [one.name for one in material.space.dimensions]
    numbers = [one.name for one in material.space.dimensions if not isinstance(one.open_value, Choice)]
    matter = [name for name in value_charts.two_that_matter(material) if name != "lr"]
    lists = [name for name in names if name not in numbers]
    chosen = [name for name in _COMPARED if name in lists] + [name for name in lists if name not in _COMPARED]
    slices = [value_charts.against(material, name) for name in matter]
    said = [f"{sentence(one.says, names)}." for one in material.advice]
    found = [
        _Section(key="advice", title="Advice", drawings=[], html=items(said) or _no_advice(material)),
        _Section(key="curves", title="Loss curves", drawings=_some(curves(material))),
        _Section(
            key="values",
            title="What the values did",
            drawings=_some(
                value_charts.against(material, "lr"),
                *(value_charts.compared(material, name) for name in chosen),
                parallel(material),
                value_charts.importance(material),
                *slices,
                value_charts.contour(material),
            ),
            html=_importance_note(material),
        ),
        _Section(
            key="cost",
            title="What it cost",
            drawings=_some(
                cost_charts.pareto(material),
                *progress(material),
                cost_charts.timeline(material),
                cost_charts.tokens(material),
                cost_charts.memory(material),
            ),
        ),
        _Section(key="failures", title="Failures", drawings=[], html=failures_html(material)),
        _Section(
            key="data",
            title="The data",
            drawings=_some(cost_charts.lengths(material)),
            html=_data_html(material),
        ),
        _Section(key="all", title="Every trial", drawings=[], html=trials_html(material)),
    ]
    return [one for one in found if one.drawings or one.html]


def _some(*found: Drawing | None) -> list[Drawing]:
    return [one for one in found if one is not None]


def _importance_note(material: Material) -> str:
    if material.importances or not material.complete:
        return ""
    return paragraph(
        f"what matters most is not told: it takes 8 complete trials and two searched values, and there are "
        f"{len(material.complete)} and {len(material.space.dimensions)}"
    )


def _no_advice(material: Material) -> str:
    if not material.complete:
        return ""
    count = len(material.complete)
    return paragraph(f"there is none that the evidence of {count} complete trials carries")


def _data_html(material: Material) -> str:
    shown = "".join(
        '<figure class="example">'
        f"<figcaption>{one.tokens:,} tokens, {one.loss_tokens:,} with loss</figcaption><pre>"
        + "".join(f"<mark>{escaped(text)}</mark>" if loss else escaped(text) for text, loss in one.parts)
        + "</pre></figure>"
        for one in material.examples
    )
    lead = paragraph("the first training rows; what carries loss is marked") if shown else ""
    return items(material.data_lines) + lead + shown


def _subtitle(material: Material) -> str:
    settings = material.space.settings
    data = ", ".join(one.path for one in settings.sources)
    asked = f"{len(material.asked)} of {count_trials(material.space)} trials"
    ended = f" ({material.ended})" if material.ended else ""
    return f"{material.state}, {asked}{ended}; {settings.model_path} on {data}"


def _figure(one: Drawing, place: int) -> str:
    kind = "chart wide" if one.is_wide else "chart"
    said = escaped(sentence(one.said))
    return (
        f'<figure class="{kind}"><h3>{escaped(one.title)}</h3>'
        f'<div class="drawn" data-chart="{place}" role="img" aria-label="{said}"></div>'
        f"<figcaption>{said}.</figcaption></figure>"
    )


def _columns(rows: Rows) -> dict[str, list[Any]]:
    """By columns: the names stand once."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [_short(row.get(name)) for row in rows] for name in names}


def _short(value: Any) -> Any:
    """Numbers with as many digits as a chart shows, texts without secrets."""
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT}g}") if value - value == 0 else None
    return struck(value) if isinstance(value, str) else value


def _json(tree: Any) -> str:
    """Inside of a script nothing may look like its end, or like a comment."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _inside(script: str) -> str:
    return script.replace("</script", "<\\/script")


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
