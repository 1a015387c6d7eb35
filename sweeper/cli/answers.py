"""The commands about a sweep's answer: ``best``, ``report``, and ``init`` from what another trainer has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sweeper.cli.streams import without_threads

__all__ = ["SweepDir", "best", "init", "report"]

ExportFormat = Literal["yaml", "deepspeed", "trl", "openrlhf", "llamafactory", "axolotl", "ms-swift"]
ImportFormat = Literal["deepspeed", "trl", "openrlhf", "llamafactory", "axolotl"]
SweepDir = Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder, such as sweeps/<name>.")]


def best(
    directory: SweepDir,
    format: Annotated[ExportFormat, typer.Option(help="What to print it as.")] = "yaml",
    prefer: Annotated[
        Literal["loss", "cost", "knee"],
        typer.Option(
            help="Of two objectives: the best first one, the cheapest no worse than the default, or "
            "the knee of the front."
        ),
    ] = "loss",
    gpus: Annotated[int | None, typer.Option(min=1, help="For so many, at the same global batch.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write it into this file.")] = None,
) -> None:
    """Print the best configuration of a sweep, or write it for another trainer."""
    from sweeper.commands import best_export, write_export

    found = best_export(directory, fmt=format, prefer=prefer, gpus=gpus)
    for note in found.notes:
        typer.echo(f"note: {note.path}: {note.said}", err=True)
    if output is None:
        if found.script is not None:
            typer.echo("note: with --output FILE a script is written beside it", err=True)
        typer.echo(found.text, nl=False)
        return
    for path in write_export(found, output):
        typer.echo(f"written: {path}")


def init(
    files: Annotated[
        list[Path], typer.Option("--from", metavar="FILE", help="Its file; Axolotl's sweep file as a second.")
    ],
    format: Annotated[ImportFormat | None, typer.Option(help="Whose it is (default: as it looks).")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The space file.")] = Path("space.yaml"),
) -> None:
    """Make a space file of another trainer's configuration or command line."""
    without_threads()
    from sweeper.commands import import_file, write_import

    found = import_file(files, fmt=format)
    write_import(found, output)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"written: {output}")


def report(
    directory: SweepDir,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Write the report of a sweep, report.html, with the answer and its evidence."""
    without_threads()
    from sweeper.commands import write_report

    written = write_report(directory)
    typer.echo(json.dumps(written.to_dict(), indent=2) if as_json else written.said)
    if open_it:
        import webbrowser

        webbrowser.open(written.path.absolute().as_uri())
