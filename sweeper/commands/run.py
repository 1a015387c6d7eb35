"""One sweep from its space file to its answer: the order of events, top to bottom."""

from __future__ import annotations

import dataclasses
import html
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.commands.lr_range import with_tested_range
from sweeper.commands.more import More, asked_again, keep_more, what_is_left
from sweeper.commands.report import WrittenReport, sweep_material, write_report
from sweeper.commands.rows import require_same_rows
from sweeper.data import gather_facts
from sweeper.engines import require_program
from sweeper.errors import LedgerAwayError, SweepFolderError, SweepInterruptedError, UserError
from sweeper.ray_tune.cluster import ray_for, ray_request
from sweeper.ray_tune.remote_driver import brought_back, refuse_taken_address
from sweeper.recommend import summary_line
from sweeper.recommend.frames import curves_frame, trials_frame
from sweeper.remote import check_files
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.log_redirect import quiet
from sweeper.screen.notices import require_webhook
from sweeper.screen.screen import Screen, Verbosity
from sweeper.search import Ledger, TrialRecord, absolute_address, check_sampler, check_storage
from sweeper.space import (
    TRUSTED,
    Space,
    SweepFolder,
    cluster_address,
    load_space,
    mark_format,
    require_hardware,
    require_metrics,
    require_open,
    row_warnings,
    secrets_of,
)
from sweeper.space.file.document import read_document
from sweeper.sweep.lock import locked, usable
from sweeper.sweep.stored import (
    note_concurrency,
    open_sweep,
    store_space,
    stored_space,
    study_url,
    this_driver,
)
from sweeper.track import check_boards, tracking_uri

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SweepResult", "given_space", "load_sweep", "resume_sweep", "room_on_nodes", "run_sweep"]


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A sweep, as far as it has come. ``frame``, ``curves``, ``best``, ``best_config``, ``report`` and
    ``folder`` are kept stable: docs/python.md."""

    space: Space
    folder: SweepFolder
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    """The trial with the best objective; none when no trial was completed."""
    untrained: float | None
    """The objective of the model before any training."""
    ended: str
    """Why no further trial was begun; empty while some are to come."""
    warnings: tuple[str, ...]
    """What went wrong beside the trials, such as MLflow being away."""

    def frame(self) -> pd.DataFrame:
        """One row for each trial, the best first: see ``trials_frame``."""
        return trials_frame(self.space, self.trials)

    def curves(self) -> pd.DataFrame:
        """One row for each evaluation of each trial: see ``curves_frame``."""
        return curves_frame(self.trials)

    @property
    def best_config(self) -> dict[str, Any] | None:
        """best-config.yaml as Python data, which ``sweeper.train`` takes; None as long as there is none."""
        file = self.folder.best_config
        return read_document(file).plain() if file.is_file() else None

    def report(self) -> WrittenReport:
        """Writes report.html anew; its ``to_dict`` says what to do next. Raises as ``write_report``."""
        return write_report(self.folder.root)

    def to_dict(self) -> dict[str, Any]:
        """What ``sweeper run --json`` prints: the keys of ``sweeper report --json``, and ``{"ended",
        "folder", "best_config", "model", "warnings"}``; the paths are null where there is no such file."""
        folder, material = self.folder, sweep_material(self.folder.root)
        found = WrittenReport(path=folder.report, material=material)
        model = None if self.best is None else folder.trial_model(self.best.number)
        paths = {"report": folder.report, "best_config": folder.best_config, "model": model}
        there = {
            name: str(path) if path is not None and path.exists() else None for name, path in paths.items()
        }
        tree = {"ended": self.ended, "folder": str(folder.root), "warnings": list(self.warnings)}
        return found.to_dict() | tree | there

    def _repr_html_(self) -> str:
        """In a notebook: the sentence that matters, and the trials."""
        said = summary_line(self.space, self.trials, untrained=self.untrained)
        return f"<p>{html.escape(said)}</p>{self.frame().to_html(index=False, na_rep='')}"


def run_sweep(
    space: Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    resume: bool = False,
    verbosity: Verbosity = Verbosity.NORMAL,
    notify: str | None = None,
) -> SweepResult:
    """Run a new sweep of a space file, or of what one would hold as Python data; ``overrides`` are
    ``key=value`` as on the command line, ``notify`` is an address that is told of the end: see ``Notices``.

    Args:
        resume: where the folder holds the sweep of this file already, go on with it, so that a job that is
            started again can always give the same command. Larger totals than before are kept, as by
            ``resume_sweep``.

    Raises:
        UserError: the file, the model, the data or the folder need mending; nothing was started.
        SweepInterruptedError: what was measured is in the ledger, and ``resume_sweep`` goes on.
    """
    began_s = time.monotonic()
    require_webhook(notify)
    given = given_space(space)
    asked = load_space(given, overrides=overrides, gather=gather_facts)
    folder = SweepFolder(Path(out or asked.sweep_dir))
    _refuse_address(folder)
    told = brought_back(asked, folder) if resume else []
    if resume and folder.space_file.is_file():
        stored = stored_space(folder)
        again = load_space(given, overrides=overrides, gather=lambda _: stored.facts)
        return _resume(folder, asked_again(again, stored), verbosity, notify, began_s, told)
    return _run(asked, folder, verbosity, notify, began_s)


def given_space(space: Path | str | Mapping[str, Any]) -> Path | Mapping[str, Any]:
    """A path, however it was written, or Python data."""
    return Path(space) if isinstance(space, str) else space


def _run(
    space: Space, folder: SweepFolder, verbosity: Verbosity, notify: str | None, began_s: float
) -> SweepResult:
    require_open(space)
    require_hardware(space)
    check_sampler(space)
    check_storage(space)
    check_files(space)
    check_boards(space)
    require_metrics(space)
    require_program(space)
    tracking_uri(space.settings, folder.root)  # refused before there is a folder
    with usable(folder):
        _refuse_existing(folder)
    refuse_taken_address(space, folder)
    storage = space.settings.search.storage
    if space.range_test is not None:
        _refuse_taken(storage, space)
        space = with_tested_range(space, folder, verbosity)
    # On a server first: where it does not answer, or knows the name already, nothing is left behind.
    elsewhere = None if storage is None else _new_ledger(absolute_address(storage), space)
    with usable(folder):
        folder.root.mkdir(parents=True, exist_ok=True)
    with (
        locked(folder),
        quiet(folder.driver_log, *_secrets(space, notify), verbosity=verbosity) as screen,
    ):
        store_space(space, folder)
        ledger = elsewhere or _new_ledger(folder.study_url, space)
        note_concurrency(space, ledger)
        return _conduct(space, folder, ledger, screen, notify, began_s)


def _secrets(space: Space, notify: str | None) -> list[str]:
    """Addresses whose passwords belong into no log."""
    return [*secrets_of(space.settings).values(), *([notify] if notify else [])]


def resume_sweep(
    root: Path | str,
    *,
    trials: int | None = None,
    time_budget: str | None = None,
    cost_budget: float | None = None,
    verbosity: Verbosity = Verbosity.NORMAL,
    notify: str | None = None,
) -> SweepResult:
    """Go on with a sweep that ended, whether it was interrupted or is to get more than it was begun with.

    Finished trials stay as they are, unfinished ones go on; what comes after them is what one uninterrupted
    sweep of that many trials would have asked, as far as the sampler knows no total (docs/decisions/0023).

    Args:
        trials: from now on, those before included; as the others, it is kept in the folder.
        time_budget: of all drivers together, such as ``4h``.
        cost_budget: of all drivers together.
        notify: as for ``run_sweep``; it is kept nowhere.

    Raises:
        UserError: there is no sweep in the folder, another driver is at work on it, it is one of a newer
            version, its data comes out otherwise than when it began, or it has had already what it is to get.
    """
    began_s, more = time.monotonic(), More(trials=trials, time_budget=time_budget, cost_budget=cost_budget)
    require_webhook(notify)
    folder = SweepFolder(Path(root))
    told = brought_back(stored_space(folder), folder) if folder.space_file.is_file() else []
    return _resume(folder, more, verbosity, notify, began_s, told)


def _resume(
    folder: SweepFolder,
    more: More,
    verbosity: Verbosity,
    notify: str | None,
    began_s: float,
    told: Sequence[str],
) -> SweepResult:
    space = more.of(folder)
    check_sampler(space)
    require_metrics(space)
    check_boards(space)
    with locked(folder):
        url = study_url(space, folder)
        is_there = Ledger.exists(url, space)
        ledger = _identified((Ledger.open if is_there else Ledger.create)(url, space))
        with quiet(folder.driver_log, *_secrets(space, notify), verbosity=verbosity) as screen:
            require_same_rows(space, ledger, folder, screen.say)
            keep_more(space, ledger, folder, more)
            mark_format(folder)
            for line in (*told, *what_is_left(space, ledger)):
                screen.say(line)
            return _conduct(space, folder, ledger, screen, notify, began_s)


def room_on_nodes(space: Space) -> list[tuple[str, str]]:
    """A row of the plan: how many trials the nodes of the cluster that is meant have room for.

    Raises UserError where no cluster is named, and what ``ray_for`` raises.
    """
    config, places = ray_request(space)
    cluster = cluster_address(config.resources.ray_address)
    if cluster is None:
        raise UserError.of(
            where="resources.ray_address",
            value="",
            rule="no Ray cluster is named, neither here nor by RAY_ADDRESS",
            remedy="name one, or leave --nodes out",
        )
    files = config.resources.files
    with ray_for(config, places=places, say=lambda _: None, folder=space.sweep_dir, files=files):
        from sweeper.ray_tune.free_resources import Places

        room = Places(config, None, lambda _: None)()
    sees = "sees the files" if files is None else f"reaches {files}"
    return [("nodes", f"{cluster.address}: each {sees}; room for {room} trials side by side")]


def load_sweep(root: Path | str) -> SweepResult:
    """What the sweep in this folder has found so far, whether it is running, interrupted or finished.

    Raises SweepFolderError where there is no sweep.
    """
    folder = SweepFolder(Path(root))
    space, ledger = open_sweep(folder)
    return _result(space, folder, ledger)


def _refuse_taken(storage: str | None, space: Space) -> None:
    """A server that does not answer, or knows the name already, is to say so before anything is trained."""
    if storage is not None and Ledger.exists(absolute_address(storage), space):
        Ledger.create(absolute_address(storage), space)


def _new_ledger(url: str, space: Space) -> Ledger:
    return _identified(Ledger.create(url, space))


def _identified(ledger: Ledger) -> Ledger:
    """A driver may have died before it could give the sweep its id."""
    if "id" not in ledger.sweep_attributes():
        ledger.note_sweep(id=uuid.uuid4().hex, started_s=time.time())
    return ledger


def _conduct(
    space: Space, folder: SweepFolder, ledger: Ledger, screen: Screen, notify: str | None, began_s: float
) -> SweepResult:
    from sweeper.commands.session import Session

    if space.settings.trust_remote_code:
        screen.say(TRUSTED, warning=True)
    with _state_of(ledger, folder), Interrupts() as interrupts:
        session = Session(space, folder, ledger, screen, notify=notify, began_s=began_s)
        session.search(interrupts)
        warnings = session.conclude()
    return _result(space, folder, ledger, warnings)


def _result(space: Space, folder: SweepFolder, ledger: Ledger, warnings: Sequence[str] = ()) -> SweepResult:
    return SweepResult(
        space=space,
        folder=folder,
        trials=tuple(ledger.trials()),
        best=ledger.best(),
        untrained=ledger.untrained_of_real,
        ended=str(ledger.sweep_attributes().get("ended", "")),
        warnings=(*row_warnings(space), *warnings),
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
    except LedgerAwayError as away:
        raise _resumable(away, folder) from away
    except BaseException:
        with suppress(Exception):  # a ledger that takes nothing more is told of already
            ledger.note_sweep(state="failed")
        raise
    ledger.note_sweep(state="finished")


def _resumable(away: LedgerAwayError, folder: SweepFolder) -> LedgerAwayError:
    remedy = f"what was committed is kept; when it answers again: `sweeper resume {folder.root}`"
    return LedgerAwayError(dataclasses.replace(problem, remedy=remedy) for problem in away.problems)


def _refuse_address(folder: SweepFolder) -> None:
    """Of a bucket, which would become a folder of that name here."""
    if re.match(r"[a-z][a-z0-9]+:/", str(folder.root)):
        raise SweepFolderError.of(
            where="checkpoint_path",
            value=str(folder.root),
            rule="is an address, and a sweep's folder is a path: its trials write and read states there",
            remedy="name a folder on a file system that all nodes share, such as NFS or Lustre",
        )


def _refuse_existing(folder: SweepFolder) -> None:
    if not folder.root.exists() or (
        folder.root.is_dir() and not set(folder.root.iterdir()) - _debris(folder)
    ):
        return
    rule, remedy = "the folder already holds files", "give another folder with --out, or another name"
    if folder.space_file.is_file():
        rule = "the folder already holds a sweep"
        remedy = f"go on with it: `sweeper resume {folder.root}`, or --resume with this command; or {remedy}"
    elif not folder.root.is_dir():
        rule = "the sweep's folder is a file"
    raise SweepFolderError.of(where=str(folder.root), value="", rule=rule, remedy=remedy)


def _debris(folder: SweepFolder) -> set[Path]:
    """What a driver leaves that died before it had stored what was asked."""
    tested = {folder.cache_dir, folder.lr_range_file, folder.lr_range_picture}
    return {folder.lock_file, folder.logs_dir, folder.facts_file, folder.format_file, *tested}
