"""The report of a sweep: gathered from its folder, written whole, and kept fresh while the sweep runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.autotune import cache_root, price_per_hour
from sweeper.data import TokenizedData, shown_examples
from sweeper.errors import MissingDependencyError, SweeperError, SweepFolderError, first_line
from sweeper.recommend.report import Material, ShownExample, how_sure_line, next_step, report_html
from sweeper.search import Ledger, TrialRecord, TrialState, searched
from sweeper.space import Space, SweepFolder, unwritable, write_whole
from sweeper.sweep.budget import SPENT
from sweeper.sweep.listener import Listener
from sweeper.sweep.stored import open_sweep, sweep_state

if TYPE_CHECKING:
    from sweeper.recommend.gains import Gain

__all__ = [
    "ReportKeeper",
    "WrittenReport",
    "require_charts",
    "sweep_material",
    "vega_script",
    "write_report",
]

_OFF = "SWEEPER_REPORT"
"""Set to ``off``: a sweep writes no report; ``sweeper report`` does."""
_SHARE, _LEAST_S = 0.02, 5.0
"""While a sweep runs its report takes this part of the time at most, and is written no more often."""
_EXAMPLES = 3
_ADVICE = "there is no report.html: pip install 'sweeper[report]', then `sweeper report {root}` writes it"


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report, and what it says."""

    path: Path
    material: Material

    @property
    def said(self) -> str:
        """Where it lies, and what to do next."""
        says, command = next_step(self.material)
        return f"report: {self.path}\nnext: {says}{': ' if command else ''}{command}"

    def to_dict(self) -> dict[str, Any]:
        """As strict JSON: ``{"name", "state", "report", "trials", "complete", "best", "metric", "value",
        "over_default", "over_median", "sure", "gpu_hours", "money", "advice": [{"about", "says"}],
        "next": {"says", "command"}}``.

        A gain is ``{"over", "measured", "percent", "low", "high", "by"}`` or null, and positive where the
        best trial is the better one; ``low`` and ``high`` are null where nothing tells.
        """
        told, best = self.material, self.material.best
        says, command = next_step(told)
        return {
            "name": told.space.name,
            "state": told.state,
            "report": str(self.path),
            "trials": len(told.asked),
            "complete": len(told.complete),
            "best": None if best is None else best.number,
            "metric": told.metric,
            "value": None if best is None else best.final_value,
            "over_default": _gain_tree(told.over_default),
            "over_median": _gain_tree(told.over_median),
            "sure": how_sure_line(told),
            "gpu_hours": told.gpu_hours,
            "money": told.money,
            "advice": [{"about": one.about, "says": one.says} for one in told.advice],
            "next": {"says": says, "command": command or None},
        }


def write_report(root: Path) -> WrittenReport:
    """Writes ``report.html`` into the folder of a sweep, whatever its state.

    Raises:
        SweepFolderError: there is no sweep, one of a newer version, or none of its trials was begun.
        MissingDependencyError: the extra ``report`` is not installed.
        UserError: the page cannot be written.
    """
    folder = SweepFolder(root)
    space, ledger = open_sweep(folder)
    require_charts(f"sweeper report {root}")
    rows = _rows_of(space, folder, ledger)
    material = _material(space, folder, ledger, sweep_state(ledger, folder), rows)
    if not material.trials:
        _, command = next_step(material)
        raise SweepFolderError.of(
            where=str(root),
            value=material.state,
            rule="there is nothing to report: no trial was begun yet",
            remedy=f"wait for one, or go on: `{command}`" if command else "begin with `sweeper run`",
        )
    try:
        return WrittenReport(path=_write(material, folder), material=material)
    except OSError as error:
        remedy = "make the folder yours, or copy it and report the copy"
        raise unwritable(folder.report, error, remedy) from error


def sweep_material(root: Path) -> Material:
    """What is known of the sweep in this folder, without the rows that it trains on.

    Raises SweepFolderError where there is no sweep, or one of a newer version.
    """
    folder = SweepFolder(root)
    space, ledger = open_sweep(folder)
    state = sweep_state(ledger, folder)
    return _material(space, folder, ledger, state, _Rows(lengths=[], lines=[], examples=[]))


class ReportKeeper(Listener):
    """Writes the report anew when a trial has ended, in a thread of its own. It never fails a sweep, and says
    at most once why there is no report."""

    def __init__(self, space: Space, folder: SweepFolder, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._space, self._folder, self._ledger, self._say = space, folder, ledger, say
        self._is_on = os.environ.get(_OFF, "").lower() != "off"
        self._wanted, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._rows: _Rows | None = None

    def conclude(self, state: str) -> None:
        """Write it a last time, now. ``state`` is finished, interrupted or failed."""
        self._over.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        if self._ledger.trials():
            self._refresh(state)

    def _follow(self) -> None:
        """Trials that end while one report is being written are in the next one."""
        while True:
            self._wanted.wait()
            if self._over.is_set():
                break
            self._wanted.clear()
            began_s = time.monotonic()
            self._refresh("running")
            self._over.wait(max((time.monotonic() - began_s) / _SHARE, _LEAST_S))
        with suppress(Exception):
            self._ledger.close()  # this thread's connection

    def _refresh(self, state: str) -> None:
        if not self._is_on:
            return
        try:
            require_charts(f"sweeper report {self._folder.root}")
            self._rows = self._rows or _rows_of(self._space, self._folder, self._ledger)
            _write(_material(self._space, self._folder, self._ledger, state, self._rows), self._folder)
        except MissingDependencyError:
            self._give_up(_ADVICE.format(root=self._folder.root))
        except Exception as error:
            self._give_up(f"report.html could not be written: {first_line(error)}")

    def _give_up(self, why: str) -> None:
        self._is_on = False
        self._say(why)

    def trial_finished(self, record: TrialRecord) -> None:
        if not self._is_on:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="report", daemon=True)
            self._thread.start()
        self._wanted.set()


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What the report says of the rows that were trained on."""

    lengths: list[int]
    lines: list[str]
    examples: list[ShownExample]


def _material(space: Space, folder: SweepFolder, ledger: Ledger, state: str, rows: _Rows) -> Material:
    attributes, trials = ledger.sweep_attributes(), ledger.trials()
    began = [one for one in trials if one.state is not TrialState.WAITING]
    return Material(
        space=space,
        trials=began if searched(began) else [],
        root=folder.root,
        state=state,
        ended=str(attributes.get("ended", "")) if state == "finished" else "",
        untrained=ledger.untrained,
        spent_s=attributes.get(SPENT),
        price_per_hour=price_per_hour(space),
        lengths=rows.lengths,
        data_lines=rows.lines,
        examples=rows.examples,
    )


def _rows_of(space: Space, folder: SweepFolder, ledger: Ledger) -> _Rows:
    """As far as they are still there."""
    facts, tags = space.facts, ledger.sweep_attributes().get("tags", {})
    counted = f"{facts.train_rows:,} rows trained on, {facts.eval_rows:,} held out"
    try:
        data = TokenizedData.open(folder.cache_dir / str(tags.get("fingerprint.data", "")))
    except SweeperError:
        gone = "the tokenized rows are not there (any more), so that no row is shown"
        return _Rows(lengths=[], lines=[counted, gone], examples=[])
    with suppress(KeyError):  # rows of an older version have fewer counts
        counted = data.summary()
    lengths, lines = data.train.lengths.tolist(), [counted, *data.notes]
    try:
        shown = shown_examples(space.settings, data.train, _EXAMPLES)
    except Exception as error:  # a tokenizer that is gone is no reason to go without the rest
        return _Rows(lengths=lengths, lines=[*lines, f"rows are not shown: {first_line(error)}"], examples=[])
    return _Rows(
        lengths=lengths,
        lines=lines,
        examples=[
            ShownExample(parts=parts, tokens=sum(counts), loss_tokens=counts[1]) for parts, counts in shown
        ],
    )


def _write(material: Material, folder: SweepFolder) -> Path:
    write_whole(folder.report, report_html(material, vega_script()))
    return folder.report


def require_charts(where: str) -> None:
    """Raises MissingDependencyError unless the extra ``report`` is installed."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError.of(
            where=where,
            value=error.name or "altair",
            rule="the report's charts need packages that are not installed",
            remedy="pip install 'sweeper[report]'",
        ) from error


def vega_script() -> str:
    """Vega and what belongs to it as one text, 0.9 MB. It takes seconds to put together, so it is kept in the
    user's cache for the version that made it."""
    import vl_convert

    file = cache_root() / "report" / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return file.read_text(encoding="utf-8")
    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, script)
    return script


def _gain_tree(gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    interval = gain.interval
    return {
        "over": gain.over,
        "measured": gain.measured,
        "percent": gain.percent,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "by": gain.by or None,
    }
