"""One sweep from its space file to its answer: the order of events, top to bottom."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sweeper.data import gather_facts
from sweeper.drive.quiet import quiet
from sweeper.drive.stored import open_sweep, store_space, sweep_state, this_driver
from sweeper.errors import SweepFolderError, SweepInterruptedError
from sweeper.search import Ledger, TrialRecord, check_sampler
from sweeper.spec import Space, SweepFolder, load_space, require_hardware, require_metrics, require_open
from sweeper.track import tracking_uri

__all__ = ["SweepResult", "resume_sweep", "run_sweep"]


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A finished sweep."""

    space: Space
    folder: SweepFolder
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    """The trial with the best objective; none when no trial was completed."""
    untrained: float | None
    """The objective of the model before any training."""
    warnings: tuple[str, ...]
    """What went wrong beside the trials, such as MLflow being away."""


def run_sweep(space_file: Path, *, overrides: Sequence[str] = (), out: Path | None = None) -> SweepResult:
    """Run a new sweep; ``overrides`` are ``key=value`` as on the command line.

    Raises:
        UserError: the file, the model, the data or the folder need mending; nothing was started.
        SweepInterruptedError: what was measured is in the ledger, and ``resume_sweep`` goes on.
    """
    space = load_space(space_file, overrides=overrides, gather=gather_facts)
    require_open(space)
    require_hardware(space)
    check_sampler(space)
    require_metrics(space)
    folder = SweepFolder(out or space.sweep_dir)
    tracking_uri(space.settings, folder.root)  # refused before there is a folder
    _make(folder)
    with quiet(folder.logs_dir / "driver.log") as person:
        store_space(space, folder)
        ledger = Ledger.create(folder.study_url, space)
        ledger.note_sweep(id=uuid.uuid4().hex)
        return _conduct(space, folder, ledger, person)


def resume_sweep(root: Path) -> SweepResult:
    """Go on with a sweep whose driver ended; finished trials stay as they are, unfinished ones go on.

    Raises:
        UserError: there is no sweep in the folder, or another driver is at work on it.
    """
    folder = SweepFolder(root)
    space, ledger = open_sweep(folder)
    _refuse_running(folder, ledger)
    require_metrics(space)
    with quiet(folder.logs_dir / "driver.log") as person:
        return _conduct(space, folder, ledger, person)


def _conduct(space: Space, folder: SweepFolder, ledger: Ledger, person: TextIO) -> SweepResult:
    from sweeper.drive.session import Session

    with _state_of(ledger, folder):
        session = Session(space, folder, ledger, person)
        session.search()
        warnings = session.conclude()
    return SweepResult(
        space=space,
        folder=folder,
        trials=tuple(ledger.trials()),
        best=ledger.best(),
        untrained=ledger.untrained,
        warnings=tuple(warnings),
    )


@contextmanager
def _state_of(ledger: Ledger, folder: SweepFolder) -> Iterator[None]:
    """Keep the sweep's state in the ledger, with the driver that a running one has."""
    ledger.note_sweep(state="running", driver=this_driver())
    try:
        yield
    except KeyboardInterrupt as interrupt:
        ledger.note_sweep(state="interrupted")
        told = f"interrupted; what was measured is kept. Go on with: sweeper resume {folder.root}"
        raise SweepInterruptedError(told) from interrupt
    except BaseException:
        ledger.note_sweep(state="failed")
        raise
    ledger.note_sweep(state="finished")


def _make(folder: SweepFolder) -> None:
    try:
        _refuse_existing(folder)
        folder.root.mkdir(parents=True, exist_ok=True)
    except SweepFolderError:
        raise  # it is an OSError, too
    except OSError as error:
        raise SweepFolderError.of(
            where=str(folder.root),
            value="",
            rule=f"the sweep's folder cannot be made: {error.strerror or error}",
            remedy="name another as checkpoint_path, or with --out",
        ) from error


def _refuse_existing(folder: SweepFolder) -> None:
    if not folder.root.exists() or (folder.root.is_dir() and not any(folder.root.iterdir())):
        return
    rule, remedy = "the folder already holds files", "give another folder with --out, or another name"
    if folder.space_file.is_file():
        rule = "the folder already holds a sweep"
        remedy = f"go on with it: `sweeper resume {folder.root}`; or {remedy}"
    elif not folder.root.is_dir():
        rule = "the sweep's folder is a file"
    raise SweepFolderError.of(where=str(folder.root), value="", rule=rule, remedy=remedy)


def _refuse_running(folder: SweepFolder, ledger: Ledger) -> None:
    if sweep_state(ledger) == "running":
        driver = ledger.sweep_attributes().get("driver", {})
        raise SweepFolderError.of(
            where=str(folder.root),
            value=f"process {driver.get('pid')} on {driver.get('host')}",
            rule="another driver is at work on this sweep",
            remedy="wait for it, or end it and resume then",
        )
