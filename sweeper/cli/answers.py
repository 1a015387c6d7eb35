"""The commands that write files: answers of sweeps by ``best``, ``report`` and ``compare``, a space file by
``init``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sweeper.cli.shown import Json, console, print_json
from sweeper.cli.streams import without_threads

__all__ = ["SweepDir", "best", "compare", "init", "report"]

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
    as_json: Json = False,
) -> None:
    """Print the best configuration of a sweep, or write it for another trainer."""
    from sweeper.commands import best_export, export_tree, write_export

    found = best_export(directory, fmt=format, prefer=prefer, gpus=gpus)
    if as_json:
        written = () if output is None else write_export(found, output)
        print_json(export_tree(found, format, written))
        return
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
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="A folder, a .gguf file or a hub id.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="D", help="A file, glob, folder or hub id.")
    ] = None,
    method: Annotated[
        Literal["full", "lora"] | None, typer.Option(help="Default: full where its states fit.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", metavar="FILE", help="Another trainer's file; Axolotl's sweep file as a second."
        ),
    ] = None,
    format: Annotated[
        ImportFormat | None, typer.Option(help="Whose file it is (default: as it looks).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The space file.")] = Path("space.yaml"),
    as_json: Json = False,
) -> None:
    """Write a space file to start from: for a model and data, or of another trainer's configuration."""
    without_threads()
    from sweeper.commands import import_file, start_file, write_import

    if files:
        _refuse_beside_from(model=model, data=data, method=method)
        found = import_file(files, fmt=format)
        write_import(found, output)
        if as_json:
            print_json({"written": str(output), "notes": list(found.notes)})
            return
        for note in found.notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"written: {output}")
        return
    if format is not None:
        raise typer.BadParameter("--format says whose the file of --from is: give --from FILE")
    begun = start_file(
        _asked(model, "--model", "Model (a folder, a .gguf file or a hub id)"),
        _asked(data, "--data", "Data (a file, glob, folder or hub id)"),
        method=method,
    )
    write_import(begun, output)
    if as_json:
        print_json({"written": str(output), "found": list(begun.found), "assumed": list(begun.assumed)})
        return
    for said in begun.found:
        typer.echo(f"found: {said}", err=True)
    for said in begun.assumed:
        typer.echo(f"assumed: {said}", err=True)
    typer.echo(f"written: {output}\nnext: sweeper validate {shlex.quote(str(output))}")


def _asked(given: str | None, option: str, question: str) -> str:
    """What was not given is asked for in a terminal, and needed anywhere else."""
    if given is not None:
        return given
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("init takes --model and --data, or --from FILE", param_hint=option)
    return str(typer.prompt(question))


def _refuse_beside_from(**given: object) -> None:
    if named := [f"--{name}" for name, value in given.items() if value is not None]:
        raise typer.BadParameter(f"{' and '.join(named)} cannot stand beside --from: the file says it")


def report(
    directory: SweepDir,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write the report of a sweep, report.html, with the answer and its evidence."""
    without_threads()
    from sweeper.commands import write_report

    written = write_report(directory)
    if as_json:
        print_json(written.to_dict())
    else:
        typer.echo(written.said)
    if open_it:
        import webbrowser

        webbrowser.open(written.path.absolute().as_uri())


def compare(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Folders of sweeps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("comparison.html"),
    as_json: Json = False,
) -> None:
    """Compare sweeps of one metric: which settings of one's answer hold in the others, with numbers."""
    without_threads()
    from sweeper.commands import compare_sweeps, write_comparison
    from sweeper.recommend.compare import comparison_tables, verdicts

    found = compare_sweeps(directories)
    if as_json:
        print_json(found.to_dict())
        return
    screen = console()
    for table in comparison_tables(found):
        screen.print(table)
    for line in verdicts(found):
        screen.print(line, soft_wrap=True, markup=False)
    write_comparison(found, output)
    screen.print(f"the whole comparison: {output}", soft_wrap=True, markup=False)
