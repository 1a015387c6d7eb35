"""The commands: parse, call one function, print.

Each command imports its package when it is called, so that ``--help`` and ``validate`` start fast.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sweeper import __version__
from sweeper.cli.answers import SweepDir, best, compare, init, report
from sweeper.cli.history import history
from sweeper.cli.shown import Json, console, print_json, print_lr_range, print_result
from sweeper.cli.streams import aside, outlive_readers, without_threads
from sweeper.errors import SweeperError, SweepInterruptedError, UserError
from sweeper.redact import without_secrets

if TYPE_CHECKING:
    from sweeper.commands import Verbosity

__all__ = ["app", "main"]

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="sweeper",
    help="Tune the supervised fine-tuning of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(history, name="history")

SpaceFile = Annotated[Path, typer.Argument(metavar="FILE", help="A space file, or a best-config.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the file; may be repeated."),
]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sweeper {__version__}")
        raise typer.Exit


Notify = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="SWEEPER_NOTIFY", help="POST JSON there when it ends or needs a person."
    ),
]
Loud = Annotated[bool, typer.Option("--verbose", "-v", help="Show the whole log, libraries included.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and the result only.")]


@app.callback()
def sweeper(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say the version and exit.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Options of no command in particular."""


@app.command()
def validate(
    file: SpaceFile,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Ask the Ray cluster's nodes, too: have they room, and the files?")
    ] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check a file and print the resolved plan. Trains nothing."""
    _print_plan(file, overrides or (), as_json, nodes=nodes)


def _print_plan(file: Path, overrides: Sequence[str], as_json: bool, *, nodes: bool = False) -> None:
    without_threads()
    from sweeper.autotune import cost_rows, known_speed, lengths_of, system_rows
    from sweeper.data import RowSample, gather_facts
    from sweeper.engines import require_program
    from sweeper.remote import check_files
    from sweeper.search import check_sampler, check_storage
    from sweeper.space import load_space, make_plan, plan_tree, render, require_metrics
    from sweeper.track import check_boards

    sampled: list[RowSample | None] = []
    space = load_space(
        file,
        overrides=overrides,
        gather=lambda settings: gather_facts(settings, lambda _, sample: sampled.append(sample)),
    )
    check_sampler(space)
    check_storage(space)
    check_files(space)
    check_boards(space)
    require_metrics(space)
    require_program(space)
    sample = lengths_of(space, *sampled)
    more = cost_rows(space, sample, known_speed(space)) + system_rows(space, sample)
    if nodes:
        from sweeper.commands import room_on_nodes

        more += room_on_nodes(space)
    if as_json:
        print_json(plan_tree(make_plan(space), more))
        return
    console().print(render(make_plan(space), more))


@app.command()
def data(
    file: SpaceFile,
    rows: Annotated[int, typer.Option(min=0, help="So many of the first rows.")] = 3,
    split: Annotated[Literal["train", "eval"], typer.Option(help="Rows trained on, or held out.")] = "train",
    as_json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Show the first rows of FILE as the model gets them, and which of their tokens are learned."""
    without_threads()
    from sweeper.data import Examples, gather_facts, show_rows, shown_lines
    from sweeper.space import load_space, require_own_trainer

    read: list[Examples] = []
    space = load_space(
        file,
        overrides=overrides or (),
        gather=lambda settings: gather_facts(settings, lambda examples, _: read.append(examples)),
    )
    require_own_trainer(space, "sweeper data")
    shown = show_rows(space, read[0], split, rows)
    if as_json:
        print_json(shown.to_dict())
        return
    screen = console()
    for line in shown_lines(shown, colour=screen.color_system is not None):
        screen.print(line, soft_wrap=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the space file, for editors."""
    from sweeper.space import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def run(
    file: SpaceFile,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder (default: sweeps/<name>).")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Instead of search.trials.")] = None,
    time_budget: Annotated[str | None, typer.Option(help="Instead of search.time_budget, e.g. 2h.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the plan, as validate does.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with this sweep where its folder holds it already.")
    ] = False,
    overrides: Overrides = None,
    notify: Notify = None,
    verbose: Loud = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search the open values of FILE and write the best configuration."""
    chosen = list(overrides or ())
    chosen += [f"search.trials={trials}"] if trials is not None else []
    chosen += [f"search.time_budget={time_budget}"] if time_budget is not None else []
    if dry_run:
        placed = [f"checkpoint_path={out}"] if out is not None else []
        _print_plan(file, [*chosen, *placed], as_json)
        return
    from sweeper.commands import run_sweep

    with aside(as_json):
        result = run_sweep(
            file,
            overrides=chosen,
            out=out,
            resume=resume,
            verbosity=_verbosity(verbose, quiet),
            notify=notify,
        )
    print_result(result, as_json=as_json)


@app.command()
def lr_range(
    file: SpaceFile,
    out: Annotated[Path | None, typer.Option(help="A folder (default: sweeps/<name>-lr-range).")] = None,
    overrides: Overrides = None,
    verbose: Loud = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the useful learning rates of FILE in one short run, and draw them."""
    from sweeper.commands import find_lr_range

    verbosity = _verbosity(verbose, quiet)
    with aside(as_json):
        found = find_lr_range(file, overrides=overrides or (), out=out, verbosity=verbosity)
    if as_json:
        print_json(found.to_dict())
    else:
        print_lr_range(found)


@app.command()
def autotune(
    file: SpaceFile,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is known.")] = False,
    overrides: Overrides = None,
    verbose: Loud = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the fastest micro-batch, ZeRO stage, checkpointing and offload that fit, at one global batch."""
    from sweeper.autotune import tuning_tables, tunings_tree
    from sweeper.commands import autotune_file

    verbosity = _verbosity(verbose, quiet)
    with aside(as_json):
        space, tunings = autotune_file(file, overrides=overrides or (), fresh=fresh, verbosity=verbosity)
    if as_json:
        print_json(tunings_tree(space, tunings))
        return
    for table in tuning_tables(space, tunings):
        console().print(table)


@app.command()
def resume(
    directory: SweepDir,
    trials: Annotated[int | None, typer.Option(min=1, help="So many in all, those before included.")] = None,
    time_budget: Annotated[str | None, typer.Option(help="Of all its drivers together, e.g. 4h.")] = None,
    cost_budget: Annotated[float | None, typer.Option(help="Of all its drivers together.")] = None,
    notify: Notify = None,
    verbose: Loud = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a sweep that was interrupted, or that is to get more; finished trials are kept."""
    from sweeper.commands import resume_sweep

    with aside(as_json):
        result = resume_sweep(
            directory,
            trials=trials,
            time_budget=time_budget,
            cost_budget=cost_budget,
            verbosity=_verbosity(verbose, quiet),
            notify=notify,
        )
    print_result(result, as_json=as_json)


@app.command()
def status(directory: SweepDir, as_json: Json = False) -> None:
    """Say how far a sweep is, also while it runs."""
    from sweeper.commands import open_sweep, sweep_state
    from sweeper.recommend import (
        confirmation_line,
        failure_lines,
        phase_line,
        results_table,
        running_lines,
        saved_line,
        sure_line,
        sweep_status,
        transfer_line,
    )
    from sweeper.search import searched
    from sweeper.space import SweepFolder, count_trials

    folder = SweepFolder(directory)
    space, ledger = open_sweep(folder)
    trials, state = ledger.trials(), sweep_state(ledger, folder)
    if as_json:
        print_json(sweep_status(space, trials, state))
        return
    screen = console()
    screen.print(f"{space.name}: {state}, {len(searched(trials))} of {count_trials(space)} trials")
    screen.print(results_table(space, trials))
    for said in (phase_line, transfer_line, confirmation_line, sure_line):
        if line := said(space, trials):
            screen.print(line, soft_wrap=True)
    for line in failure_lines(trials):
        screen.print(line, soft_wrap=True, markup=False)
    if state == "running":
        for line in running_lines(trials, folder):
            screen.print(line)
    if saved := saved_line(trials):
        screen.print(saved, soft_wrap=True)


@app.command()
def sync(directory: SweepDir) -> None:
    """Write to MLflow what it lacks of a sweep, such as after an outage."""
    from sweeper.commands import sync_sweep

    typer.echo(sync_sweep(directory))


for command in (best, compare, init, report):
    app.command()(command)


@app.command()
def train(
    file: SpaceFile,
    output_dir: Annotated[Path | None, typer.Option(help="Default: models/<name>.")] = None,
    merge_adapter: Annotated[bool, typer.Option(help="Save LoRA adapters merged into the model.")] = False,
    overrides: Overrides = None,
    verbose: Loud = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a file with nothing open, in full, and save the model."""
    from sweeper.commands import train_config

    with aside(as_json):
        result = train_config(
            file,
            overrides=overrides or (),
            output_dir=output_dir,
            merge_adapter=merge_adapter,
            verbosity=_verbosity(verbose, quiet),
        )
    if as_json:
        print_json(result.to_dict())
        return
    said = []
    for name in dict.fromkeys(("eval/loss", result.objective)):
        before = f" (untrained {result.untrained[name]:.4f})" if result.untrained else ""
        said.append(f"{name} {result.metrics[name]:.4f}{before}")
    when = f" after {result.tokens:,} of {result.tokens_trained:,} tokens"
    best = f"{when}, the best of its evaluations" if result.tokens < result.tokens_trained else ""
    typer.echo(f"{', '.join(said)}{best}; model in {result.folder}")


@app.command()
def ui(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A sweep's folder, or the folder that holds several.")
    ] = Path("sweeps"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Compare sweeps in the MLflow UI, on 127.0.0.1."""
    from sweeper.commands import newest_sweep
    from sweeper.track import comparison_url, judged_by, serve_ui, tracking_uri

    space, folder = newest_sweep(directory)
    uri, objective = tracking_uri(space.settings, folder.root), space.settings.objective
    url = comparison_url(uri, port, space.experiment, metric=judged_by(objective), mode=objective.mode)
    typer.echo(f"compare the trials of {space.name}: {url}")
    raise typer.Exit(serve_ui(uri, port))


def _verbosity(verbose: bool, quiet: bool) -> Verbosity:
    from sweeper.commands import Verbosity

    if verbose and quiet:
        raise typer.BadParameter("--verbose and --quiet say the opposite of each other: give one of them")
    return Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL


def main() -> None:
    """The console script: exit status 0, 1 (failed), 2 (to be mended), 130 (interrupted)."""
    # The search's matrices are small: several threads only wait for each other there, beside the ranks. It is
    # read when numpy is imported; torch has threads of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    outlive_readers()
    try:
        app()
    except UserError as error:
        _end(str(error), EXIT_USER)
    except SweepInterruptedError as interrupt:
        _end(f"\n{interrupt}", EXIT_INTERRUPTED)
    except SweeperError as error:
        _end(f"sweeper: {error}", EXIT_FAILED)
    except Exception:  # a fault of this package's own
        _end(traceback.format_exc(), EXIT_FAILED)


def _end(said: str, status: int) -> None:
    """Whatever an error quotes, no secret gets onto the screen."""
    print(without_secrets(said), file=sys.stderr)  # noqa: T201
    sys.exit(status)
