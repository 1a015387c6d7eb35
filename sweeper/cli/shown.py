"""What the commands print when they are done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.errors import SweeperError

if TYPE_CHECKING:
    from rich.console import Console

    from sweeper.commands import LrRangeResult, SweepResult

__all__ = ["Json", "console", "print_json", "print_lr_range", "print_result"]

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")]

_FILE_WIDTH = 120


def console() -> Console:
    """As wide as the terminal; wide enough for a table where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


def print_json(tree: dict[str, Any]) -> None:
    """One object as strict JSON: a number that is not finite is null."""
    from sweeper.search.records import json_tree

    typer.echo(json.dumps(json_tree(tree), indent=2, allow_nan=False))


def print_result(result: SweepResult, *, as_json: bool) -> None:
    """Raises SweeperError, once it is printed, where no trial was completed."""
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    if result.best is None:
        raise SweeperError(f"no trial was completed; their logs are in {result.folder.trials_dir}")


def _print_result(result: SweepResult) -> None:
    from sweeper.recommend import (
        confirmation_line,
        front_line,
        memory_line,
        paused_line,
        range_lines,
        results_table,
        saved_line,
        summary_line,
        sure_line,
        transfer_line,
    )

    screen = console()
    screen.print(results_table(result.space, result.trials))
    screen.print(summary_line(result.space, result.trials, untrained=result.untrained), soft_wrap=True)
    for line in (transfer_line, confirmation_line, sure_line, front_line):
        if text := line(result.space, result.trials):
            screen.print(text, soft_wrap=True)
    screen.print(result.ended, soft_wrap=True)
    for said in range_lines(result.space, result.trials):
        screen.print(said, soft_wrap=True, markup=False)
    if paused := paused_line(result.trials):
        screen.print(paused, soft_wrap=True)
    if saved := saved_line(result.trials):
        screen.print(saved, soft_wrap=True)
    if memory := memory_line(result.trials):
        screen.print(memory, soft_wrap=True)
    for warning in result.warnings:
        screen.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    if result.best is None:
        return
    screen.print(f"best configuration: {result.folder.best_config}")
    if (model := result.folder.trial_model(result.best.number)).is_dir():
        screen.print(f"its trained model:  {model}")
    if result.folder.report.is_file():
        screen.print(f"the whole report:   {result.folder.report}")


def print_lr_range(result: LrRangeResult) -> None:
    from rich.table import Table

    from sweeper.autotune import compared, suggested

    screen, found = console(), result.found
    screen.print(f"{found.finding}.", soft_wrap=True)
    if found.bracket is None:
        screen.print("warning: this says nothing about the file's lr", style="yellow", soft_wrap=True)
    else:
        useful = suggested(found.bracket)
        lost = "never" if found.diverged_at is None else f"{found.diverged_at:.1e}"
        table = Table("loss falls from", "fastest at", "stops falling at", "is lost from")
        table.add_row(f"{useful.low:.1e}", f"{found.bracket.steepest:.1e}", f"{useful.high:.1e}", lost)
        screen.print(table)
        screen.print(f"{compared(result.asked, useful)}.", soft_wrap=True)
        line = f"lr: {{log_uniform: [{useful.low:.1e}, {useful.high:.1e}]}}"
        screen.print(f"to search this range, write under training:   {line}", soft_wrap=True, markup=False)
    screen.print(f"picture: {result.folder.lr_range_picture}", soft_wrap=True)
    screen.print(f"numbers: {result.folder.lr_range_file}", soft_wrap=True)
