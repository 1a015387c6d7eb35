"""The live view of a running sweep: a panel in a terminal, plain lines anywhere else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeper.recommend import compact
from sweeper.screen.notebook import NotebookView
from sweeper.screen.screen import Screen
from sweeper.search import TrialRecord, TrialState, eligible, own_evaluations, runs_of_finals, searched
from sweeper.search.front import order
from sweeper.space import Config, Space, count_trials, shares_of_proxy
from sweeper.sweep.listener import Listener
from sweeper.sweep.recovery import TrialRestart
from sweeper.training import Moved, Prepared, Progress

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ProgressView", "prepared_text"]

_REFRESHES_PER_S = 4
_SILENCE_S = 60.0
"""Where there is no panel, so much time passes before a line says how far the running trials are."""
_PREPARING_SILENCE_S = 10.0
"""The same while rows are prepared."""
_MOST_TRIALS = 4
"""So many are in such a line."""
_WORDS = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "stopped",
    TrialState.PAUSED: "paused",
    TrialState.FAIL: "failed",
}
_COLOURS = {
    TrialState.COMPLETE: "green",
    TrialState.RUNNING: "cyan",
    TrialState.PRUNED: "yellow",
    TrialState.PAUSED: "yellow",
    TrialState.FAIL: "red",
}


@dataclass
class _Running:
    """What the view knows of one running trial."""

    values: str
    total_tokens: int = 0
    tokens: int = 0
    objective: float | None = None
    tokens_per_s: float = 0.0
    size: float = 1.0
    """In trials of full size."""

    @property
    def fraction(self) -> float:
        return self.tokens / self.total_tokens if self.total_tokens else 0.0


class ProgressView(Listener):
    """Draws; use as a context manager. Methods may be called from any thread."""

    def __init__(self, space: Space, screen: Screen, *, finished: list[TrialRecord]) -> None:
        self._screen, self._console = screen, screen.console
        self._metric = space.settings.objective.metric
        self._objective = space.settings.objective
        self._wanted, self._name = count_trials(space), space.name
        confirm = space.settings.search.confirm
        self._wanted_again = (confirm.top or 0) * (confirm.seeds or 0)
        """Runs under other seeds, at most."""
        self._wanted_real = runs_of_finals(space)
        """Trials on the real thing after a search on a proxy, at most."""
        self._small = shares_of_proxy(space)[1] or 1.0
        """A trial on the proxy, in trials of full size."""
        self._finished: dict[int, TrialRecord] = {record.number: record for record in finished}
        self._ended_now = 0.0
        """In trials of full size."""
        self._running: dict[int, _Running] = {}
        self._note = "starting Ray and the workers"
        self._prepared: tuple[int, float | None] | None = None
        """Rows that are prepared, and which fraction of all that is; None once a trial has its rows."""
        self._notes: dict[str, tuple[str, ...]] = {}
        """Of the data and of the model."""
        self._warnings: tuple[str, ...] = ()
        self._began = self._last_line = time.monotonic()
        self._lock = threading.Lock()
        # What others print must not be drawn into the panel: it belongs into the log.
        self._live: Live | NotebookView | None = (
            Live(
                get_renderable=self._draw,
                console=self._console,
                refresh_per_second=_REFRESHES_PER_S,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            if screen.has_panel
            else NotebookView(self._draw)
            if screen.has_cell
            else None
        )

    def __enter__(self) -> ProgressView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str, *, warning: bool = False) -> None:
        """What the sweep as a whole is doing, until the first trial trains."""
        with self._lock:
            self._note = text
        self._line(text, warning=warning)

    def preparing(self, rows: int, fraction: float | None) -> None:
        """How far the rows are that the first trial waits for, and which fraction of all that is."""
        with self._lock:
            self._prepared = (rows, fraction)
            is_silent = time.monotonic() - self._last_line > _PREPARING_SILENCE_S
        if is_silent:
            self._line(prepared_text(rows, fraction))

    def trial_started(self, number: int, record: TrialRecord, config: Config) -> None:
        with self._lock:
            self._running[number] = _Running(_values(record), size=self._size(record))
        default = " (the rules of thumb)" if record.is_default else ""
        if record.replicate_of is not None:
            default = f" (trial {record.replicate_of} under seed {record.seed})"
        elif record.is_proxy:
            default = " (the rules of thumb, on the proxy)" if record.is_default else " (on the proxy)"
        elif record.real_of is not None:
            default = f" (trial {record.real_of} on the real thing)"
        verb, fork = "goes on" if record.evaluations else "starts", record.attributes.get("fork")
        if fork and not own_evaluations(record):
            verb = f"goes on from trial {fork['trial']} after {fork['tokens']:,} tokens"
        self._line(f"trial {number} {verb}{default}: {_values(record)}")

    def trial_prepared(self, number: int, prepared: Prepared) -> None:
        notes = {"data": prepared.data_notes, "model": prepared.model_notes}
        with self._lock:
            self._running[number].total_tokens = prepared.total_tokens
            self._prepared = None
            told, self._notes = self._notes, notes
        for subject, lines in notes.items():
            if lines != told.get(subject):
                for line in lines:
                    self._line(f"{subject}: {line}")

    def moved(self, number: int, moved: Moved) -> None:
        with self._lock:
            running = self._running[number]
            running.tokens, running.tokens_per_s = moved.tokens, moved.tokens_per_s
            running.total_tokens = moved.total_tokens or running.total_tokens
            is_silent = time.monotonic() - self._last_line > _SILENCE_S
            said = self._running_line() if is_silent and self._live is None else ""
        if said:
            self._line(said)

    def progressed(self, number: int, progress: Progress) -> None:
        with self._lock:
            self._note = ""
            running = self._running[number]
            running.tokens = progress.tokens
            running.objective = progress.metrics.get(self._metric, running.objective)
            running.tokens_per_s = progress.metrics.get("perf/tokens_per_s", running.tokens_per_s)
        if progress.paused:
            state = "its state is written" if progress.tokens else "before its first"
            self._line(f"trial {number} paused after step {progress.step}, {state}")
        elif progress.tokens == 0:
            self._line(f"untrained model: {self._metric} {compact(progress.metrics[self._metric])}")

    def trial_set_back(self, number: int, setback: TrialRestart) -> None:
        self.warned(number, setback.reason)

    def warned(self, number: int, warning: str) -> None:
        self.warn(f"trial {number}: {warning}")

    def warn(self, text: str) -> None:
        """Of the sweep as a whole."""
        with self._lock:
            self._warnings = (*self._warnings, text)[-3:]
        self._line(text, warning=True)

    def trial_paused(self, record: TrialRecord) -> None:
        with self._lock:
            self._running.pop(record.number, None)
            self._note = ""
        self._line(f"trial {record.number} paused: {record.reason}")

    def trial_finished(self, record: TrialRecord) -> None:
        with self._lock:
            self._running.pop(record.number, None)
            self._finished[record.number] = record
            self._ended_now += self._size(record)
        value = "" if record.value is None else f"{self._metric} {compact(record.value)}"
        said = ", ".join(part for part in (value, record.reason) if part)
        line = f"trial {record.number} {_WORDS[record.state]}: {said}  [{self._summary()}]"
        self._line(line, warning=record.state is TrialState.FAIL)

    def _line(self, text: str, *, warning: bool = False) -> None:
        self._last_line = time.monotonic()
        if self._live is not None:
            self._screen.note(text)
        else:
            shown = f"{time.monotonic() - self._began:6.1f} s  {text}"
            self._screen.say(text, warning=warning, shown=shown)

    # Drawing ---------------------------------------------------------------------------------

    def _draw(self) -> RenderableType:
        with self._lock:
            parts: list[RenderableType] = [Text(f"{self._name}  {self._summary()}", style="bold")]
            finished = self._finished.values()
            best = order(eligible(finished) or searched(finished), self._objective)
            if best:
                on_proxy = " on the proxy" if best[0].is_proxy else ""
                said = f"best so far{on_proxy}: trial {best[0].number}, {self._scored(best[0])}"
                parts.append(Text(said, style="green"))
            parts += [Text(line, style="dim") for lines in self._notes.values() for line in lines]
            parts += [Text(warning, style="yellow") for warning in self._warnings]
            if self._note:
                parts.append(Text(f"{self._note} ...", style="dim"))
            if self._prepared is not None:
                parts.append(_prepared_bar(*self._prepared))
            if self._running:
                parts.append(self._running_table())
            recent = sorted(self._finished.values(), key=lambda record: record.number)[-6:]
            parts += [Text(self._ended_line(record), style=_COLOURS[record.state]) for record in recent]
            return Group(*parts)

    def _running_line(self) -> str:
        said = [
            f"trial {number} at {running.fraction:.0%}, {running.tokens_per_s:,.0f} tokens/s"
            + ("" if running.objective is None else f", {self._metric} {compact(running.objective)}")
            for number, running in sorted(self._running.items())
        ]
        more = len(said) - _MOST_TRIALS
        return "; ".join([*said[:_MOST_TRIALS], *([f"and {more} more"] if more > 0 else [])])

    def _running_table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("trial", "progress", "", self._metric, "tokens/s", "values"):
            table.add_column(column)
        for number, running in sorted(self._running.items()):
            bar = ProgressBar(total=1.0, completed=running.fraction, width=20, complete_style="cyan")
            value = "" if running.objective is None else compact(running.objective)
            speed = f"{running.tokens_per_s:,.0f}" if running.tokens_per_s else ""
            table.add_row(
                str(number),
                bar,
                f"{running.fraction:.0%}",
                value,
                speed,
                Text(running.values, overflow="ellipsis"),
            )
        return table

    def _ended_line(self, record: TrialRecord) -> str:
        reason = f"  {record.reason}" if record.reason else ""
        return f"trial {record.number:<3} {_WORDS[record.state]:<8} {self._scored(record)}{reason}"

    def _scored(self, record: TrialRecord) -> str:
        value = "" if record.value is None else f"{self._metric} {compact(record.value)}  "
        return f"{value}{_values(record)}"

    def _summary(self) -> str:
        ended = searched(self._finished.values())
        again = sum(one.replicate_of is not None for one in self._finished.values())
        real = sum(one.real_of is not None for one in self._finished.values())
        states = Counter(record.state for record in ended)
        counted = ", ".join(f"{states[state]} {word}" for state, word in _WORDS.items() if states[state])
        elapsed = time.monotonic() - self._began
        text = f"{len(ended)}/{self._wanted} trials" + " on the proxy" * bool(self._wanted_real)
        text += f" ({counted})" if counted else ""
        text += f", {real} on the real thing" if real else ""
        text += f", {again} runs under other seeds" if again else ""
        text += f", {len(self._running)} running, {_clock(elapsed)}"
        left = self._seconds_left(elapsed)
        return text if left is None else f"{text}, about {_clock(left)} left"

    def _seconds_left(self, elapsed_s: float) -> float | None:
        """From the pace so far; None until a trial has ended."""
        if not self._ended_now:
            return None
        begun = sum(running.fraction * running.size for running in self._running.values())
        ended = sum(map(self._size, self._finished.values()))
        searched_size = self._small if self._wanted_real else 1.0
        wanted = self._wanted * searched_size + self._wanted_real + self._wanted_again
        return max(wanted - ended - begun, 0.0) * elapsed_s / (self._ended_now + begun)

    def _size(self, record: TrialRecord) -> float:
        return self._small if record.is_proxy else 1.0


def prepared_text(rows: int, fraction: float | None) -> str:
    """How far the preparation of the rows is, in words."""
    share = "" if fraction is None else f", {fraction:.0%}"
    return f"preparing the rows: {rows:,} done{share}"


def _prepared_bar(rows: int, fraction: float | None) -> RenderableType:
    line = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=None if fraction is None else 1.0, completed=fraction or 0.0, width=20)
    line.add_row(bar, Text(prepared_text(rows, fraction), style="dim"))
    return line


def _values(record: TrialRecord) -> str:
    return ", ".join(f"{name} {compact(value)}" for name, value in record.values.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
