"""The results for people: a table, its rows for files, and one sentence."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweeper.recommend.certainty import confirmation_line, confirmed_cells, sure_line
from sweeper.recommend.constraints import constraint_cells, constraint_line
from sweeper.recommend.ends import range_lines
from sweeper.recommend.peaks import memory_line, peak_of
from sweeper.recommend.preference import front_line
from sweeper.recommend.ranking import (
    ResultRow,
    best_record,
    decisive_epoch,
    default_record,
    improvement,
    result_rows,
    tokens_seen,
)
from sweeper.recommend.transfer import transfer_line
from sweeper.search import TrialRecord, TrialState, best_of, searched
from sweeper.space import constraints_of, short_label, write_whole

if TYPE_CHECKING:
    from rich.table import Table

    from sweeper.space import Scalar, Space, SweepFolder

__all__ = [
    "compact",
    "paused_line",
    "results_csv",
    "results_markdown",
    "results_rows",
    "results_table",
    "saved_line",
    "summary_line",
    "write_results",
]

_STYLES = {
    TrialState.COMPLETE: "",
    TrialState.PRUNED: "yellow",
    TrialState.PAUSED: "yellow",
    TrialState.RUNNING: "cyan",
    TrialState.WAITING: "dim",
    TrialState.FAIL: "red",
}
_KEY_COLUMNS = 5
"""Rank, trial, state, objective, against the default; two more where a confirmation decides, and with two
objectives the second one and the front."""
_OWN_COLUMNS = (
    "rank", "trial", "state", "phase", "fresh seeds", "behind", "best at", "tokens", "time", "pareto"
)  # fmt: skip


def results_rows(space: Space, trials: Sequence[TrialRecord]) -> list[dict[str, Scalar | None]]:
    """One plain mapping per trial with full precision, the best first; all have the same keys."""
    peaks = {record.number: peak_of(record) for record in trials}
    bounded = {one.number: constraint_cells(one, space.settings.objective) for one in trials}
    sharing: dict[int, dict[str, Scalar | None]] = {
        one.number: {
            "same_as": one.same_as,
            "forked_from": one.forked_from,
            "saved_tokens": one.saved_tokens,
        }
        for one in trials
    }
    return [
        {
            "rank": row.rank,
            "trial": row.trial,
            "state": row.state.value,
            "default": row.is_default,
            space.settings.objective.metric: row.value,
            "better_than_default_percent": None
            if row.improvement is None
            else round(100 * row.improvement, 3),
            **(
                {"value_tokens": row.value_tokens, "value_epoch": row.value_epoch}
                if space.settings.objective.at == "best"
                else {}
            ),
            **(_second(space, row) if _has_two(space) else {}),
            **bounded[row.trial],
            **({} if space.settings.search.confirm.top is None else confirmed_cells(row.confirmed)),
            **(_phase_cells(row) if space.settings.search.proxy.is_wanted else {}),
            **{dimension.name: row.values.get(dimension.name) for dimension in space.dimensions},
            "tokens": row.tokens,
            **sharing[row.trial],
            "seconds": None if row.seconds is None else round(row.seconds, 3),
            "peak_memory_gib": peaks[row.trial].measured_gib,
            "predicted_memory_gib": peaks[row.trial].predicted_gib,
            "reason": row.reason,
        }
        for row in result_rows(space, trials)
    ]


def results_csv(space: Space, trials: Sequence[TrialRecord]) -> str:
    """The rows as CSV with a header; what is missing is empty."""
    rows = results_rows(space, trials)
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def results_markdown(space: Space, trials: Sequence[TrialRecord]) -> str:
    """The table of the screen as Markdown, under the sentence that sums it up."""
    rows = result_rows(space, trials)
    columns = _columns(space, rows)
    header = _markdown_row([title for title, _ in columns])
    said = (
        transfer_line(space, trials),
        confirmation_line(space, trials),
        sure_line(space, trials),
    )
    lines = [summary_line(space, trials), *(part for line in said if line for part in ("", line))]
    lines += ["", header, "|" + " --- |" * len(columns)]
    lines += [_markdown_row([cell(row) for _, cell in columns]) for row in rows]
    more = [front_line(space, trials), *range_lines(space, trials), memory_line(trials), saved_line(trials)]
    return "\n".join([*lines, *(part for line in more if line for part in ("", line))]) + "\n"


def results_table(space: Space, trials: Sequence[TrialRecord]) -> Table:
    """Trials by objective, against the default configuration; complete ones first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = result_rows(space, trials)
    columns = _columns(space, rows)
    heading = f"{space.name}: {len(rows)} trials"
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    on_proxy = space.settings.search.proxy.is_wanted
    key_columns = _KEY_COLUMNS + 2 * _decided(rows) + 2 * _has_two(space) + on_proxy
    key_columns += len(space.settings.objective.constraints or ())
    for index, (title, cell) in enumerate(columns):
        # On a narrow terminal parameters are cut short; what makes the point stays whole.
        whole = max(len(title), *(len(cell(row)) for row in rows), 0) if index < key_columns else 4
        justify: Literal["left", "right"] = "left" if index == 2 else "right"
        table.add_column(title, justify=justify, no_wrap=True, overflow="ellipsis", min_width=whole)
    for row in rows:
        style = "bold green" if row.rank == 1 else _STYLES[row.state]
        table.add_row(*(Text(cell(row)) for _, cell in columns), style=style)
    return table


def write_results(space: Space, trials: Sequence[TrialRecord], folder: SweepFolder) -> list[Path]:
    """Writes the final table as CSV and as Markdown into the sweep's folder; returns both paths."""
    files = {
        folder.results_csv: results_csv(space, trials),
        folder.results_markdown: results_markdown(space, trials),
    }
    for path, text in files.items():
        write_whole(path, text)
    return list(files)


def summary_line(space: Space, trials: Sequence[TrialRecord], *, untrained: float | None = None) -> str:
    """What the sweep found, in one honest sentence without a full stop."""
    best, count = best_record(space, trials), len(searched(trials))
    if best is None or best.value is None:
        return f"none of {count} trials was trained to its end, so there is no best configuration"
    metric = space.settings.objective.metric
    if best.is_default and best.number != _best_alone(space, trials):
        said = (
            f"the default configuration (trial {best.number}) is chosen of {count} trials; in its own run it "
            f"reached {metric} {best.value:.4g}{_judged_where(space, best)}"
        )
    elif best.is_default:
        said = (
            f"the default configuration (trial {best.number}) was itself the best of {count} trials "
            f"with {metric} {best.value:.4g}{_judged_where(space, best)}: the search found nothing better"
        )
    else:
        said = f"trial {best.number} reached {metric} {best.value:.4g}{_judged_where(space, best)}"
        said += _than_default(space, best.value, default_record(trials))
    if bounded := constraint_line(space, trials, best):
        said += f"; {bounded}"
    if untrained is not None and math.isfinite(untrained):
        said += f" (untrained model: {untrained:.4g})"
    return said


def paused_line(trials: Sequence[TrialRecord]) -> str | None:
    """Which trials are paused, and what their chances were; None where none is."""
    paused = sorted((one for one in trials if one.chance is not None), key=lambda one: -(one.chance or 0.0))
    if not paused:
        return None
    shown = ", ".join(f"{one.number} ({one.chance:.1%})" for one in paused)
    return f"paused, with the chance to beat the best: trials {shown}; `resume --trials` may thaw them"


def saved_line(trials: Sequence[TrialRecord]) -> str | None:
    """How many training tokens were not trained again, and which trials took them over; None where none."""
    saved = sum(one.saved_tokens for one in trials)
    if not saved:
        return None
    shown = [
        f"{one.number} ({f'same as {one.same_as}' if one.forked_from is None else f'from {one.forked_from}'})"
        for one in trials
        if one.saved_tokens
    ]
    share = saved / sum(tokens_seen(one) for one in trials)
    said = (
        f"{saved:,} training tokens ({share:.0%}) were taken over from trials that are the same up to there"
    )
    return f"{said}: trials {', '.join(shown)}"


def _judged_where(space: Space, best: TrialRecord) -> str:
    """At which of its evaluations, where that need not be the last one."""
    if space.settings.objective.at == "end" or best.decisive is None:
        return ""
    epoch = decisive_epoch(best)
    passed = "" if epoch is None else f" (epoch {epoch:.2g})"
    return f" after {best.decisive.tokens:,} of {tokens_seen(best):,} tokens{passed}"


def _than_default(space: Space, value: float, default: TrialRecord | None) -> str:
    if default is None:
        return "; the default configuration was not tried"
    if default.state is not TrialState.COMPLETE or default.value is None:
        return f"; the default configuration was not trained to its end ({default.state.value})"
    better = improvement(space, value, default.value)
    is_below = (space.settings.objective.mode == "min") == (better is None or better > 0)
    side = "below" if is_below else "above"
    if better == 0:
        return ", the same as the default configuration"
    percent = "" if better is None else f"{100 * abs(better):.1f}% "
    return f", {percent}{side} the default configuration's {default.value:.4g}"


def compact(value: Scalar | None) -> str:
    """A value in few characters: ``0.0003``, ``1.2e-05``, ``12.3k``, ``yes``."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _thousands(value) if abs(value) >= 10_000 else str(value)
    return f"{value:.3g}" if isinstance(value, float) else value


def _thousands(value: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < 1000 * size else f"{value // size}{unit}"
    return str(value)


def _best_alone(space: Space, trials: Sequence[TrialRecord]) -> int | None:
    best = best_of(trials, space.settings.objective)
    return None if best is None else best.number


def _decided(rows: Sequence[ResultRow]) -> bool:
    """Whether a confirmation has decided."""
    return any(row.confirmed is not None for row in rows)


def _columns(space: Space, rows: Sequence[ResultRow]) -> list[tuple[str, Callable[[ResultRow], str]]]:
    """Title of each column, and its cell of a row."""
    objective = space.settings.objective
    return [
        ("rank", lambda row: "-" if row.rank is None else str(row.rank)),
        ("trial", lambda row: str(row.trial)),
        ("state", lambda row: row.state.value.lower()),
        *([("phase", _phase)] if space.settings.search.proxy.is_wanted else []),
        (objective.metric, lambda row: "-" if row.value is None else f"{row.value:.4f}"),
        ("vs default", _against_default),
        *([(objective.also, _also)] if objective.also not in (None, "tokens") else []),
        *([("pareto", _is_pareto)] if _has_two(space) else []),
        *(
            (one.metric.partition("/")[2], partial(_bounded, one.metric))
            for one in constraints_of(objective)
            if one.metric != objective.metric
        ),
        *([("fresh seeds", _fresh_seeds), ("behind", _behind)] if _decided(rows) else []),
        *(
            (short_label(space, dimension.name, taken=_OWN_COLUMNS), partial(_parameter, dimension.name))
            for dimension in space.dimensions
        ),
        *([("best at", _best_at)] if objective.at == "best" else []),
        ("tokens", lambda row: compact(row.tokens)),
        ("time", lambda row: "-" if row.seconds is None else f"{row.seconds:.1f} s"),
    ]


def _phase(row: ResultRow) -> str:
    return "proxy" if row.is_proxy else "real" if row.real_of is None else f"real of {row.real_of}"


def _phase_cells(row: ResultRow) -> dict[str, Scalar | None]:
    return {"phase": "proxy" if row.is_proxy else "real", "real_of": row.real_of}


def _has_two(space: Space) -> bool:
    return space.settings.objective.also is not None


def _second(space: Space, row: ResultRow) -> dict[str, Scalar | None]:
    return {str(space.settings.objective.also): row.also, "pareto": row.is_pareto}


def _also(row: ResultRow) -> str:
    return "-" if row.also is None else f"{row.also:.4g}"


def _is_pareto(row: ResultRow) -> str:
    return "yes" if row.is_pareto else ""


def _bounded(metric: str, row: ResultRow) -> str:
    """A bounded metric; a mark where any bound is broken."""
    value = row.bounded.get(metric)
    return "-" if value is None else f"{value:.4g}{'' if row.is_feasible else ' !'}"


def _parameter(name: str, row: ResultRow) -> str:
    return compact(row.values.get(name))


def _best_at(row: ResultRow) -> str:
    """The evaluation that the trial is judged by: its epoch, else its tokens."""
    return compact(row.value_tokens) if row.value_epoch is None else f"epoch {row.value_epoch:.2g}"


def _against_default(row: ResultRow) -> str:
    if row.is_default:
        return "default"
    if row.improvement is None:
        return "-"
    percent = f"{100 * abs(row.improvement):.1f}%"
    if percent == "0.0%":
        return "the same"
    return f"{percent} {'better' if row.improvement > 0 else 'worse'}"


def _fresh_seeds(row: ResultRow) -> str:
    """The mean, and of how many runs."""
    if row.confirmed is None or row.confirmed.mean is None:
        return "-"
    return f"{row.confirmed.mean:.4f} ({len(row.confirmed.values)})"


def _behind(row: ResultRow) -> str:
    """The leader, by how much."""
    behind = None if row.confirmed is None else row.confirmed.behind
    return "-" if behind is None else f"{behind.mean:.2g} ± {behind.high - behind.mean:.2g}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
