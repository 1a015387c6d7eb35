"""A comparison in the terminal: what carries over, in sentences, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sweeper.recommend.compare.comparison import Comparison, Transfer
from sweeper.recommend.compare.side import Outcome
from sweeper.recommend.table import compact

if TYPE_CHECKING:
    from rich.table import Table

    from sweeper.recommend.compare.settings import Setting
    from sweeper.space import Scalar

__all__ = ["Rows", "comparison_tables", "outcome_text", "rows_of_all", "verdicts"]

Rows = tuple[str, list[str], list[list[str]]]
"""Title, heads and cells of a table."""


def verdicts(found: Comparison) -> list[str]:
    """One sentence for each setting that several sweeps searched, and one for whole configurations."""
    said = [_setting_line(found, one) for one in found.settings]
    worst = max(found.transfers, key=lambda one: one.as_it_is.percent or 0.0)
    said.append(
        f"as whole configurations: at worst the best of {worst.source} is {_words(worst.as_it_is)} in "
        f"{worst.target}"
    )
    return said


def rows_of_all(found: Comparison) -> list[Rows]:
    """All tables as texts, for the terminal and the page."""
    return [_sweeps(found), _transfers(found), _settings(found), *_differs(found)]


def comparison_tables(found: Comparison) -> Iterator[Table]:
    """For a console of rich."""
    from rich.table import Table

    for title, heads, cells in rows_of_all(found):
        table = Table(*heads, title=title, title_justify="left")
        for row in cells:
            table.add_row(*row)
        yield table


def outcome_text(outcome: Outcome | None) -> str:
    """``3 of 24, +1.2 %``."""
    if outcome is None:
        return "-"
    percent = f"{outcome.regret:+.2g}" if outcome.percent is None else f"{outcome.percent:+.2g} %"
    return f"{outcome.rank} of {outcome.of}, {percent}"


def _words(outcome: Outcome) -> str:
    interval = "" if outcome.low is None else f" (95 % {outcome.low:+.2g} to {outcome.high:+.2g})"
    return f"{outcome_text(outcome)}: worse by {outcome.regret:.2g}{interval}, by {_BY[outcome.by]}"


_BY = {
    "that trial": "a trial of it",
    "surrogate": "the surrogate of its trials",
    "nearest trial": "the nearest trial",
}


def _setting_line(found: Comparison, setting: Setting) -> str:
    told = [one for one in setting.swaps if one.worse is not None]
    values = ", ".join(f"{value} in {sweep}" for sweep, value in _shown(setting.values).items())
    if not told:
        return f"{setting.path}: {setting.verdict}, the trials do not tell ({values})"
    worst = max(told, key=lambda one: one.worse or 0.0)
    interval = f"95 % {worst.low:.2g} to {worst.high:.2g}" if worst.low is not None else ""
    return (
        f"{setting.path} {setting.verdict} ({values}): swapped alone it costs {worst.worse:.2g} of "
        f"{found.metric} at most, in {worst.target} ({interval}; {worst.counts:.2g} is nothing there)"
    )


def _shown(values: dict[str, Scalar]) -> dict[str, str]:
    return {sweep: compact(value) for sweep, value in values.items()}


def _sweeps(found: Comparison) -> Rows:
    heads = [
        "sweep",
        "model",
        "data",
        "complete",
        f"best {found.metric}",
        "vs default",
        "lr",
        "rule",
        "ratio",
    ]
    cells = []
    for side in found.sides:
        tree = side.to_dict()
        lr, gain = tree["lr"], tree["over_default_percent"]
        rate = [compact(lr["best"]), compact(lr["rule_of_thumb"]), f"{lr['ratio']:.2g}"] if lr else ["-"] * 3
        cells.append(
            [
                side.label,
                side.model.rstrip("/").rpartition("/")[2],
                side.data.rpartition("/")[2],
                str(tree["complete"]),
                f"{side.best_value:.4f}",
                "-" if gain is None else f"{gain:.1f} % better",
                *rate,
            ]
        )
    return "The sweeps, and where the best learning rate lies by the rule of thumb", heads, cells


def _transfers(found: Comparison) -> Rows:
    heads = ["the best of", "in", "rank, regret", "95 %", "by", "with lr by its ratio", "not searched there"]
    return "Each sweep's best configuration in the others", heads, [_transfer(one) for one in found.transfers]


def _transfer(one: Transfer) -> list[str]:
    told = one.as_it_is
    return [
        one.source,
        one.target,
        outcome_text(told),
        "-" if told.low is None else f"{told.low:+.2g} to {told.high:+.2g}",
        told.by,
        outcome_text(one.by_lr_ratio),
        ", ".join(path.partition(".")[2] for path in one.not_there) or "-",
    ]


def _settings(found: Comparison) -> Rows:
    labels = [one.label for one in found.sides]
    heads = ["setting", *(f"best in {one}" for one in labels), "swapped costs", "verdict"]
    cells = []
    for one in found.settings:
        worst = max((swap.worse for swap in one.swaps if swap.worse is not None), default=None)
        best = [_cell(one, label) for label in labels]
        cells.append([one.path, *best, "-" if worst is None else f"{worst:+.2g}", one.verdict])
    return "Settings that several sweeps searched (in brackets: their importance there)", heads, cells


def _cell(setting: Setting, label: str) -> str:
    if label not in setting.values:
        return "-"
    part = setting.importances.get(label)
    return compact(setting.values[label]) + ("" if part is None else f" ({part:.0%})")


def _differs(found: Comparison) -> Iterator[Rows]:
    if found.differs:
        labels = [one.label for one in found.sides]
        cells = [[path, *(values[label] for label in labels)] for path, values in found.differs.items()]
        yield "What else is not the same", ["field", *labels], cells
