"""The files of a sweep's trials: what driver and trials tell each other by, and what stays on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.data import mixed_folder
from sweeper.search import TrialRecord, contenders, feasible
from sweeper.space import Config, Space, SweepFolder
from sweeper.sweep.paused_states import states_to_drop
from sweeper.sweep.sharing import Start
from sweeper.training import Job, Moved, discard, newest_checkpoint, read_moved

__all__ = ["TrialFiles"]


class TrialFiles:
    """Knows the disk only: what becomes of a trial is for the recorder to say."""

    def __init__(self, space: Space, folder: SweepFolder) -> None:
        self._space, self._folder = space, folder
        self._moved: dict[int, Moved | None] = {}
        """How far the trials at work have said that they are."""
        self._best: list[TrialRecord] | None = None
        """The trials of which one will be chosen, by those that have ended so far; None: not looked at yet."""
        self._sizes_gib: dict[int, float] = {}
        """Of the states of paused trials, which do not change."""

    def job(
        self,
        number: int,
        config: Config,
        start: Start,
        *,
        data_dir: Path,
        keeps_model: bool,
        evaluate_untrained: bool,
        retries: int,
        best_so_far: float | None,
    ) -> Job:
        """What a trial trains, with its own files in it, from its newest state where it has one."""
        folder = self._folder
        return Job(
            config=config,
            cache_dir=folder.cache_dir.absolute(),
            data_dir=mixed_folder(data_dir, config) if self._space.has_open_weights else data_dir,
            log_file=folder.trial_log(number).absolute(),
            evaluate_untrained=evaluate_untrained,
            resume_from=newest_checkpoint(folder.trial_checkpoints(number).absolute()),
            checkpoints=folder.trial_checkpoints(number).absolute(),
            model_folder=folder.trial_model(number).absolute() if keeps_model else None,
            processes=folder.processes_dir.absolute(),
            progress_file=folder.trial_progress(number).absolute(),
            stop_file=folder.stop_file.absolute(),
            pause_file=folder.trial_pause(number).absolute(),
            retries=retries,
            best_so_far=best_so_far,
            fork_from=start.fork_from,
            leave_at=start.leave_at,
            left_states=folder.trial_left(number).absolute(),
        )

    # What they tell each other ---------------------------------------------------------------

    def watch(self, number: int) -> None:
        """A trial is about to begin; what an earlier driver's trial has said is forgotten."""
        self.forget(number)
        self._moved[number] = None
        self._sizes_gib.pop(number, None)

    def forget(self, number: int) -> None:
        """A trial has come to a stop."""
        self._moved.pop(number, None)
        for file in (self._folder.trial_progress(number), self._folder.trial_pause(number)):
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def news(self) -> Iterator[tuple[int, Moved]]:
        """The trials at work that have come further since the last look."""
        for number, before in list(self._moved.items()):
            moved = read_moved(self._folder.trial_progress(number))
            if moved is not None and moved != before:
                self._moved[number] = moved
                yield number, moved

    def ask_all_to_pause(self) -> None:
        """On a disk without room, trials stop after their next evaluation."""
        with suppress(OSError):
            self._folder.stop_file.touch()

    def ask_to_pause(self, number: int) -> None:
        """A trial that cannot be told pauses after its next evaluation."""
        with suppress(OSError):
            self._folder.trial_pause(number).touch()

    # What stays ------------------------------------------------------------------------------

    def tidy(self, number: int, records: Mapping[int, TrialRecord]) -> None:
        """Remove what the settings do not keep of a trial that has ended, and models that were beaten: those
        of trials that may yet be chosen stay. To be called of each trial that ends; the first time all are
        looked at."""
        settings = self._space.settings.checkpoints
        ended = (
            [one for one in records.values() if one.state.is_finished] if self._best is None else self._best
        )
        self._best = contenders(self._space, [*ended, records[number]] if ended is self._best else ended)
        if not settings.keep_finished:
            self._discard(self._folder.trial_checkpoints(number))
        if settings.model == "best" and self._best:
            for other in {number, *(one.number for one in ended)} - {one.number for one in self._best}:
                self._discard(self._folder.trial_model(other))

    def drop_states(self, records: Iterable[TrialRecord]) -> Iterator[tuple[int, float]]:
        """The paused trials whose states had to go, each right after that, with GiB of its state."""
        limit_gib = self._space.settings.search.paused_gib
        for number, size_gib in states_to_drop(records, self._folder, limit_gib, self._sizes_gib):
            self._discard(self._folder.trial_checkpoints(number))
            yield number, size_gib

    def to_beat(self, records: Mapping[int, TrialRecord]) -> float | None:
        """The objective that a trial's model has to beat to be kept; None where it has none to beat, or only
        such as break the constraints."""
        best = contenders(self._space, list(records.values())) if self._best is None else self._best
        kept = feasible(best, self._space.settings.objective)
        return kept[-1].final_value if len(kept) == (self._space.settings.search.confirm.top or 1) else None

    def _discard(self, folder: Path) -> None:
        discard(folder, inside=self._folder.root)
