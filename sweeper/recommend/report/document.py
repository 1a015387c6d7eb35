"""A page as one HTML file that asks nothing of any server: its sections, and what draws their charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sweeper.recommend.report.charts import Drawing
from sweeper.recommend.report.datasets import Rows
from sweeper.recommend.report.html import escaped, sentence, struck

__all__ = ["Section", "document_html"]

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
)
"""The browser itself refuses every request. Vega compiles its expressions, which takes unsafe-eval."""
_SIGNIFICANT = 7


@dataclass(frozen=True, kw_only=True)
class Section:
    key: str
    title: str
    drawings: Sequence[Drawing] = ()
    html: str = ""


def document_html(
    *,
    kind: str,
    heading: str,
    subtitle: str,
    sections: Sequence[Section],
    data: Mapping[str, Rows],
    script: str,
    footer: str = "",
) -> str:
    """The whole file. The first section is the answer: the navigation names the others.

    Args:
        kind: what such a page is, for the window's title.
        data: rows that several charts share, by the names that their specifications have.
        script: Vega with vega-embed, as ``vl_convert.javascript_bundle()`` gives it.
        footer: HTML.
    """
    told: dict[str, Any] = {"data": {name: _columns(rows) for name, rows in data.items()}}
    every = [one for section in sections for one in section.drawings]
    told["charts"] = [
        {"spec": one.chart, "data": {name: _columns(rows) for name, rows in one.data.items()}}
        for one in every
    ]
    places = {id(one): place for place, one in enumerate(every)}
    links = "".join(f'<a href="#{one.key}">{escaped(one.title)}</a>' for one in sections[1:])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(heading)}: {escaped(kind)}</title>
<link rel="icon" href="data:,">
<style>{_file("page.css")}</style>
</head>
<body>
<a class="skip" href="#{sections[0].key}">To the answer</a>
<header><h1>{escaped(heading)}</h1>
<p>{escaped(subtitle)}</p></header>
<nav aria-label="Sections">{links}</nav>
<main>
{"".join(_section(one, places) for one in sections)}
</main>
{footer}
<div id="said" role="status" aria-live="polite"></div>
<script type="application/json" id="material">{_json(told)}</script>
<script>{_inside(script)}</script>
<script>{_file("page.js")}</script>
</body>
</html>
"""


def _section(section: Section, places: Mapping[int, int]) -> str:
    figures = "".join(_figure(one, places[id(one)]) for one in section.drawings)
    inside = f'<div class="charts">{figures}</div>' if figures else ""
    return f'<section id="{section.key}"><h2>{escaped(section.title)}</h2>{section.html}{inside}</section>'


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
