"""A comparison as one HTML file that asks nothing of any server, and runs no script."""

from __future__ import annotations

import shlex
from importlib.resources import files

from sweeper.recommend.compare.comparison import Comparison
from sweeper.recommend.compare.side import SweepSide
from sweeper.recommend.compare.tables import rows_of_all, verdicts
from sweeper.recommend.report import gain_line, how_sure_line
from sweeper.recommend.report.html import escaped, items, paragraph, sentence, table
from sweeper.recommend.table import summary_line

__all__ = ["comparison_html"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def comparison_html(found: Comparison) -> str:
    """The whole page: the verdicts, the tables, and each sweep's own answer."""
    names = ", ".join(one.label for one in found.sides)
    tables = "".join(
        f"<section><h2>{escaped(title)}</h2>"
        f"{table(heads, [[escaped(cell) for cell in row] for row in cells], title)}</section>"
        for title, heads, cells in rows_of_all(found)
    )
    said = [f"{sentence(one)}." for one in verdicts(found)]
    note = paragraph(
        "a configuration is judged inside of the sweep that it is carried into, by the trials of that sweep: "
        "a regret is how much worse it is than that sweep's own best"
    )
    style = files("sweeper.recommend.report").joinpath("page.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(names)}: sweeps compared</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><h1>{escaped(names)}</h1>
<p>{len(found.sides)} sweeps by {escaped(found.metric)} ({escaped(found.mode)})</p></header>
<main>
<section id="answer"><h2>What carries over</h2>{items(said)}{note}</section>
{tables}
{"".join(map(_side, found.sides))}
</main>
</body>
</html>
"""


def _side(side: SweepSide) -> str:
    """The answer of one sweep in the words of its own report."""
    material = side.material
    lines = [
        summary_line(material.space, material.trials, untrained=material.untrained),
        gain_line(material.over_default, "the default"),
        how_sure_line(material),
    ]
    advice = items(f"{sentence(one.says)}." for one in material.advice)
    command = f"sweeper report {shlex.quote(str(material.root))}"
    return (
        f"<section><h2>{escaped(side.label)}</h2>{''.join(map(paragraph, lines))}{advice}"
        f"<p><code>{escaped(command)}</code></p></section>"
    )
