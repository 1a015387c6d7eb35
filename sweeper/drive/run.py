"""One sweep from its space file to its answer: the order of events, top to bottom."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sweeper.data import gather_facts
from sweeper.drive.quiet import quiet
from sweeper.errors import Problem, SweepFolderError, SweepInterruptedError
from sweeper.search import Ledger, TrialRecord, check_sampler
from sweeper.spec import Facts, Space, SweepFolder, dump_config, load_space, require_open, write_whole

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
    check_sampler(space)
    folder = SweepFolder(out or space.sweep_dir)
    _refuse_existing(folder)
    with quiet(folder.logs_dir / "driver.log") as person:
        write_whole(folder.space_file, dump_config(space.resolved()))
        write_whole(folder.facts_file, json.dumps(dataclasses.asdict(space.facts), indent=2) + "\n")
        ledger = Ledger.create(folder.study_url, space)
        ledger.note_sweep(id=uuid.uuid4().hex)
        return _conduct(space, folder, ledger, person)


def resume_sweep(root: Path) -> SweepResult:
    """Go on with a sweep whose driver ended; finished trials stay as they are.

    The facts that the rules of thumb were drawn from stay those of the beginning.

    Raises:
        UserError: there is no sweep in the folder, or another driver is at work on it.
    """
    folder = SweepFolder(root)
    space, ledger = open_sweep(folder)
    _refuse_running(folder, ledger)
    with quiet(folder.logs_dir / "driver.log") as person:
        return _conduct(space, folder, ledger, person)


def open_sweep(folder: SweepFolder) -> tuple[Space, Ledger]:
    """The space and the ledger of an existing folder. Raises SweepFolderError when it is none."""
    if not folder.space_file.is_file():
        raise _no_sweep(folder.root)
    space = _known_space(folder)
    return space, Ledger.open(folder.study_url, space)


def tracking_uri_of(directory: Path) -> str:
    """Where the sweep in this folder is tracked; of a folder of sweeps, where the newest one is.

    Raises SweepFolderError when there is neither.
    """
    from sweeper.track import tracking_uri

    inside = sorted(directory.glob("*/space.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    for folder in map(SweepFolder, [directory, *(file.parent for file in inside)]):
        if folder.space_file.is_file():
            return tracking_uri(_known_space(folder).settings, folder.root)
    raise _no_sweep(directory)


def _known_space(folder: SweepFolder) -> Space:
    return load_space(folder.space_file, gather=lambda _: _known_facts(folder))


def _known_facts(folder: SweepFolder) -> Facts:
    """As they were when the sweep began: reading a sweep needs neither its data nor its model."""
    try:
        return Facts(**json.loads(folder.facts_file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SweepFolderError.of(
            where=str(folder.facts_file),
            value="",
            rule=f"the sweep's facts cannot be read ({error})",
            remedy="restore the file, or start a new sweep",
        ) from error


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
    ledger.note_sweep(state="running", driver={"pid": os.getpid(), "host": socket.gethostname()})
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


def sweep_state(ledger: Ledger) -> str:
    """``running``, ``finished``, ``interrupted`` or ``failed``; a dead driver's sweep is interrupted."""
    attributes = ledger.sweep_attributes()
    state = str(attributes.get("state", "interrupted"))
    return "interrupted" if state == "running" and not _is_alive(attributes.get("driver", {})) else state


def _is_alive(driver: dict[str, object]) -> bool:
    """A driver on another host cannot be looked at from here: believe it."""
    if driver.get("host") != socket.gethostname():
        return True
    return _signalable(int(str(driver.get("pid", 0))))


def _signalable(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OSError):
        return False
    return True


def _refuse_existing(folder: SweepFolder) -> None:
    if folder.root.is_dir() and any(folder.root.iterdir()):
        what = "a sweep" if folder.space_file.exists() else "files of something else"
        remedy = "give another folder with --out or another name"
        if folder.space_file.exists():
            remedy = f"go on with it: `sweeper resume {folder.root}`; or {remedy}"
        raise SweepFolderError.of(
            where=str(folder.root), value="", rule=f"the folder already holds {what}", remedy=remedy
        )
    if folder.root.exists() and not folder.root.is_dir():
        raise SweepFolderError.of(
            where=str(folder.root),
            value="",
            rule="the sweep's folder is a file",
            remedy="give another folder with --out",
        )


def _refuse_running(folder: SweepFolder, ledger: Ledger) -> None:
    if sweep_state(ledger) == "running":
        driver = ledger.sweep_attributes().get("driver", {})
        raise SweepFolderError.of(
            where=str(folder.root),
            value=f"process {driver.get('pid')} on {driver.get('host')}",
            rule="another driver is at work on this sweep",
            remedy="wait for it, or end it and resume then",
        )


def _no_sweep(directory: Path) -> SweepFolderError:
    return SweepFolderError(
        [
            Problem(
                where=str(directory),
                value="",
                rule="holds no sweep" if directory.is_dir() else "there is no such folder",
                remedy="give the folder that `sweeper run` named, such as sweeps/<name>",
            )
        ]
    )
