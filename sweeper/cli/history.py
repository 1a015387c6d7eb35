"""``sweeper history``: what earlier sweeps found."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.cli.shown import Json, console, print_json

if TYPE_CHECKING:
    from sweeper.history import PastTrial, SweepOfHistory

__all__ = ["history"]

history = typer.Typer(
    help="What earlier sweeps found, which new ones go by: `search.history` in a space file.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None,
    typer.Option("--file", help="The history (default: $SWEEPER_HISTORY, or the user's own)."),
]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As `history list` shows them, or names.")]
_SHOWN_TRIALS = 10


@history.command("list")
def list_sweeps(file: File = None, as_json: Json = False) -> None:
    """List the sweeps, the newest first."""
    from sweeper.commands.history import find_sweeps, open_history

    opened = open_history(file)
    sweeps = find_sweeps(opened, ())
    if as_json:
        told = [{**asdict(one.facts), "trials": len(one.trials), "best": _best(one)} for one in sweeps]
        print_json({"file": str(opened.path), "sweeps": told})
        return
    _print_sweeps(sweeps)
    typer.echo(f"{len(sweeps)} sweeps in {opened.path}")


@history.command()
def show(
    sweep: Annotated[str, typer.Argument(metavar="ID")], file: File = None, as_json: Json = False
) -> None:
    """Show what is known of one sweep, and its best trials."""
    from sweeper.commands.history import find_sweeps, open_history

    (found,) = find_sweeps(open_history(file), [sweep])
    if as_json:
        print_json(asdict(found))
        return
    _print_sweeps([found])
    _print_facts(asdict(found.facts.features))
    _print_trials(found)


@history.command()
def export(
    sweeps: Annotated[list[str] | None, typer.Argument(metavar="[ID...]")] = None,
    out: Annotated[Path | None, typer.Option(help="A file (default: the terminal).")] = None,
    file: File = None,
) -> None:
    """Write sweeps as JSON, all or those named, for `history import` elsewhere."""
    from sweeper.commands.history import export_history, open_history
    from sweeper.space import write_named

    content = export_history(open_history(file), sweeps or [])
    if out is None:
        typer.echo(content, nl=False)
        return
    write_named(out, content, "--out")
    typer.echo(f"written to {out}")


@history.command("import")
def import_sweeps(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A sweep's folder, an exported file, the URI of an MLflow store, or an Optuna storage.",
        ),
    ],
    experiment: Annotated[str | None, typer.Option("--mlflow", metavar="EXPERIMENT")] = None,
    study: Annotated[str | None, typer.Option("--optuna", metavar="STUDY")] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="What their names mean: docs/history.md.")
    ] = None,
    file: File = None,
) -> None:
    """Add sweeps from elsewhere. One that is there already is replaced."""
    from sweeper.commands.history import import_experiment, import_stored, import_study, open_history

    opened = open_history(file)
    if experiment is None and study is None:
        for one in import_stored(opened, Path(source)):
            _say_imported(one, {})
        return
    if mapping is None or (experiment is not None and study is not None):
        raise typer.BadParameter("give --map FILE, and one of --mlflow and --optuna")
    if experiment is not None:
        imported = import_experiment(opened, source, experiment, mapping)
    else:
        imported = import_study(opened, source, str(study), mapping)
    _say_imported(imported.sweep, imported.left_out)


@history.command()
def forget(sweeps: Ids, file: File = None) -> None:
    """Remove sweeps. One that still runs comes back with its next trial."""
    from sweeper.commands.history import forget_sweeps, open_history

    for one in forget_sweeps(open_history(file), sweeps):
        typer.echo(f"forgot {one.facts.name} ({one.facts.id[:8]}), {len(one.trials)} trials")


def _say_imported(sweep: SweepOfHistory, left_out: Mapping[str, int]) -> None:
    typer.echo(f"{sweep.facts.name} ({sweep.facts.id[:8]}): {len(sweep.trials)} trials")
    for reason, count in left_out.items():
        typer.echo(f"  left out {count}: {reason}")


def _print_sweeps(sweeps: Sequence[SweepOfHistory]) -> None:
    from rich.table import Table

    table = Table("id", "name", "model", "data", "metric", "trials", "best", "begun")
    for one in sweeps:
        facts, best = one.facts, _best(one)
        begun = time.strftime("%Y-%m-%d", time.localtime(facts.began_s))
        table.add_row(
            facts.id[:8],
            facts.name,
            facts.features.model,
            ", ".join(facts.features.data),
            facts.metric,
            str(len(one.trials)),
            "" if best is None else f"{best:.4f}",
            begun,
        )
    console().print(table)


def _print_facts(features: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table("known before training", "")
    for name, value in features.items():
        shown = ", ".join(value) if isinstance(value, (tuple, list)) else str(value)
        table.add_row(name, "?" if value is None else shown)
    console().print(table)


def _print_trials(sweep: SweepOfHistory) -> None:
    """The best ones, with the settings in which the sweep's trials differ."""
    from rich.table import Table

    flat = {trial.number: dict(_flat(trial.config)) for trial in sweep.trials}
    differing = [
        path
        for path in dict.fromkeys(path for one in flat.values() for path in one)
        if len({json.dumps(one.get(path)) for one in flat.values()}) > 1
    ]
    ranked = sorted(sweep.trials, key=lambda one: _rank(one, sweep.facts.mode))
    table = Table("trial", "state", sweep.facts.metric, *(path.partition(".")[2] for path in differing))
    for trial in ranked[:_SHOWN_TRIALS]:
        value = _value(trial)
        settings = [_shown(flat[trial.number].get(path)) for path in differing]
        table.add_row(str(trial.number), trial.state, "" if value is None else f"{value:.4f}", *settings)
    console().print(table)


def _rank(trial: PastTrial, mode: str) -> float:
    """The smaller, the better."""
    value = _value(trial)
    if value is None:
        return math.inf
    return value if mode == "min" else -value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(tree: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in tree.items():
        path = f"{before}.{name}" if before else name
        pairs += _flat(value, path) if isinstance(value, Mapping) else [(path, value)]
    return pairs


def _value(trial: PastTrial) -> float | None:
    """What it came to; None where it diverged."""
    return trial.evaluations[-1][1] if trial.evaluations and trial.state != "FAIL" else None


def _best(sweep: SweepOfHistory) -> float | None:
    """Of the trials that were trained to their ends."""
    values = [value for one in sweep.trials if one.state == "COMPLETE" and (value := _value(one)) is not None]
    better = min if sweep.facts.mode == "min" else max
    return better(values, default=None)
