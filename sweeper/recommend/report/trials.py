"""Every trial as a row of a table that can be sorted and filtered, with its configuration to copy."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeper.recommend.report.datasets import ended_how
from sweeper.recommend.report.html import escaped, paragraph, table
from sweeper.recommend.table import results_rows
from sweeper.search import TrialRecord, TrialState

if TYPE_CHECKING:
    from sweeper.recommend.report.material import Material
    from sweeper.space import Scalar, Space

__all__ = ["failures_html", "fragment", "trials_html"]

_LAST = ("reason",)


def trials_html(material: Material) -> str:
    """The table. Numbers sort as numbers by ``data-value``."""
    rows = results_rows(material.space, material.trials)
    if not rows:
        return paragraph("no trial was started yet")
    told = {name for name in rows[0] if any(row[name] not in (None, 0, False) for row in rows)}
    empty = rows[0].keys() - told - {"trial"}  # which is 0 where there is one only
    rows = [{name: value for name, value in row.items() if name not in empty} for row in rows]
    by_number = {one.number: one for one in material.asked}
    names = {one.name: material.label(one.name) for one in material.space.dimensions}
    titles = list(rows[0])
    head = "".join(
        '<th scope="col" aria-sort="none"><button type="button">'
        f"{escaped(names.get(one, one).replace('_', ' '))}</button></th>"
        for one in titles
    )
    body = "".join(_row(material, row, by_number[int(row["trial"] or 0)]) for row in rows)
    return (
        '<p class="filter"><label for="filter">Show trials with</label> '
        '<input id="filter" type="search" placeholder="cosine, failed, 3e-4 ..."> '
        f'<output id="shown" for="filter">{len(rows)} of {len(rows)}</output></p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="All trials"><table id="trials">'
        "<caption>All trials; a title sorts by its column</caption>"
        f'<thead><tr><th scope="col">values</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def failures_html(material: Material) -> str:
    """Why trials failed, each reason once."""
    failed = [one for one in material.trials if one.state is TrialState.FAIL]
    if not failed:
        return paragraph("no trial failed")
    reasons: dict[str, list[int]] = {}
    for one in failed:
        reasons.setdefault(one.reason or "no reason was noted", []).append(one.number)
    rows = [
        (
            f'<span class="reason">{escaped(reason)}</span>',
            str(len(numbers)),
            escaped(", ".join(map(str, numbers))),
        )
        for reason, numbers in sorted(reasons.items(), key=lambda one: -len(one[1]))
    ]
    return table(
        ("reason", "trials", "numbers"), rows, "Failures; the whole log of one is trials/<number>/log.txt"
    )


def fragment(space: Space, record: TrialRecord) -> str:
    """A trial's searched values as a part of a space file."""
    lines = [f"# trial {record.number} of {space.name}; all of it is in trials/{record.number}/config.yaml"]
    tree: dict[str, object] = {}
    for one in space.dimensions:
        if one.name not in record.values:
            continue
        *sections, last = one.path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})  # type: ignore[assignment]
        place[last] = record.values[one.name]
    return "\n".join([*lines, *_yaml(tree)]) + "\n"


def _yaml(tree: Mapping[str, object], indent: str = "") -> list[str]:
    """Scalars as JSON, which is YAML."""
    lines = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_yaml(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}{name}: {json.dumps(value)}")
    return lines


def _row(material: Material, row: Mapping[str, Scalar | None], record: TrialRecord) -> str:
    is_best = material.best is not None and record.number == material.best.number
    told = {**row, "state": ended_how(record)}
    cells = "".join(_cell(name, value) for name, value in told.items())
    copied = html.escape(fragment(material.space, record), quote=True)  # searched values hold no secrets
    label = f"Copy the values of trial {record.number}"
    button = f'<button type="button" data-copy="{copied}" aria-label="{label}">Copy</button>'
    return f"<tr{' class=best' if is_best else ''}><td>{button}</td>{cells}</tr>"


def _cell(name: str, value: Scalar | None) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else ''}</td>"
    if isinstance(value, (int, float)):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        return f'<td class="number" data-value="{value!r}">{shown}</td>'
    kind = ' class="reason"' if name in _LAST else ""
    return f"<td{kind}>{escaped(value)}</td>"
