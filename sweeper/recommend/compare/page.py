"""A comparison as one HTML file that asks nothing of any server."""

from __future__ import annotations

import shlex

from sweeper.recommend.compare.charts import carried, rates, swaps
from sweeper.recommend.compare.comparison import Comparison
from sweeper.recommend.compare.side import SweepSide
from sweeper.recommend.compare.tables import rows_of_all, verdicts
from sweeper.recommend.report import gain_line, how_sure_line
from sweeper.recommend.report.document import Section, document_html
from sweeper.recommend.report.html import escaped, items, paragraph, sentence, table
from sweeper.recommend.table import summary_line

__all__ = ["comparison_html"]


def comparison_html(found: Comparison, script: str) -> str:
    """The whole page: the verdicts, their pictures and tables, and each sweep's own answer.

    ``script`` is Vega with vega-embed, as of a report. Raises ImportError where Altair is missing.
    """
    said = [f"{sentence(one)}." for one in verdicts(found)]
    note = paragraph(
        "a configuration is judged inside of the sweep that it is carried into, by the trials of that sweep: "
        "a regret is how much worse it is than that sweep's own best"
    )
    pictures = [*rates(found), *(one for one in (carried(found), swaps(found)) if one is not None)]
    tables = [
        Section(
            key=f"table-{place}",
            title=title,
            html=table(heads, [[escaped(cell) for cell in row] for row in cells], title),
        )
        for place, (title, heads, cells) in enumerate(rows_of_all(found))
    ]
    sides = [
        Section(key=f"sweep-{place}", title=one.label, html=_side(one))
        for place, one in enumerate(found.sides)
    ]
    return document_html(
        kind="sweeps compared",
        heading=", ".join(one.label for one in found.sides),
        subtitle=f"{len(found.sides)} sweeps by {found.metric} ({found.mode})",
        sections=[
            Section(key="answer", title="What carries over", html=items(said) + note),
            Section(key="pictures", title="In pictures", drawings=pictures),
            *tables,
            *sides,
        ],
        data={},
        script=script,
    )


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
    return f"{''.join(map(paragraph, lines))}{advice}<p><code>{escaped(command)}</code></p>"
