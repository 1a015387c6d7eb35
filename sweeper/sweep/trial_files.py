"""The files of a sweep's trials: what driver and trials tell each other by, and what stays on the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.data import mixed_folder
from sweeper.remote import DriverFiles
from sweeper.search import TrialRecord, TrialState, contenders, feasible
from sweeper.space import Config, Space, SweepFolder
from sweeper.sweep.paused_states import size_gib, states_to_drop
from sweeper.sweep.sharing import Start
from sweeper.training import Job, Moved, discard, newest_checkpoint, read_moved

__all__ = ["TrialFiles"]


class TrialFiles:
    """Knows the disk only: what becomes of a trial is for the recorder to say."""

    def __init__(self, space: Space, folder: SweepFolder, remote: DriverFiles | None = None) -> None:
        """``remote``: where the nodes do not share the folder, which has shells of the trials' files then."""
        self._space, self._folder, self._remote = space, folder, remote
        self._moved: dict[int, Moved | None] = {}
        """How far the trials at work have said that they are."""
        self._best: list[TrialRecord] | None = None
        """The trials of which one will be chosen, so far; None: not looked at yet."""
        self._is_tidy = False
        """Whether what an earlier driver left was looked at."""
        self._sizes_gib: dict[int, float] | None = None
        """Of the states of paused trials, which do not change; None: not looked at yet."""

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
            files=None if self._remote is None else self._remote.of_job(),
        )

    # What they tell each other ---------------------------------------------------------------

    def watch(self, number: int) -> None:
        """A trial is about to begin; what an earlier driver's trial has said is forgotten."""
        self.forget(number)
        self._moved[number] = None
        if self._remote is not None:
            self._remote.watch(number)
        if self._sizes_gib is not None:
            self._sizes_gib.pop(number, None)

    def forget(self, number: int) -> None:
        """A trial has come to a stop."""
        self._moved.pop(number, None)
        for file in (self._folder.trial_progress(number), self._folder.trial_pause(number)):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        if self._remote is not None:
            self._remote.forget(number)

    def news(self) -> Iterator[tuple[int, Moved]]:
        """The trials at work that have come further since the last look."""
        for number, before in list(self._moved.items()):
            moved = read_moved(self._folder.trial_progress(number))
            if moved is not None and moved != before:
                self._moved[number] = moved
                yield number, moved

    def ask_all_to_pause(self) -> None:
        """On a disk without room, trials stop after their next evaluation."""
        self._ask(self._folder.stop_file)

    def ask_to_pause(self, number: int) -> None:
        """A trial that cannot be told pauses after its next evaluation."""
        self._ask(self._folder.trial_pause(number))

    def _ask(self, signal: Path) -> None:
        with suppress(OSError):
            signal.touch()
            if self._remote is not None:
                self._remote.tell(signal)

    # What stays ------------------------------------------------------------------------------

    def tidy(self, number: int, records: Mapping[int, TrialRecord]) -> None:
        """Remove what the settings do not keep of a trial that has ended, and models that were beaten: those
        of trials that may yet be chosen stay. To be called of each trial that ends; the first time all are
        looked at."""
        settings, before = self._space.settings.checkpoints, self._contenders(records)
        self._best = contenders(
            self._space, list({one.number: one for one in [*before, records[number]]}.values())
        )
        if not settings.keep_finished:
            self._discard(self._folder.trial_checkpoints(number))
        if settings.model == "best" and self._best:
            ended = before if self._is_tidy else [one for one in records.values() if one.state.is_finished]
            for other in {number, *(one.number for one in ended)} - {one.number for one in self._best}:
                self._discard(self._folder.trial_model(other))
            self._is_tidy = True

    def drop_states(self, number: int, records: Mapping[int, TrialRecord]) -> Iterator[tuple[int, float]]:
        """The paused trials whose states had to go, each right after that, with GiB of its state. To be
        called of each trial that pauses."""
        limit_gib, sizes = self._space.settings.search.paused_gib, self._sizes_gib
        if limit_gib is None and self._remote is not None:
            limit_gib = math.inf  # this disk has none of them
        paused = [number]
        if sizes is None:
            sizes = self._sizes_gib = {}
            paused = [one.number for one in records.values() if one.state is TrialState.PAUSED]
        sizes |= {one: size_gib(self._folder.trial_checkpoints(one)) for one in paused}
        for over, freed_gib in states_to_drop(sizes, records, self._folder, limit_gib):
            self._discard(self._folder.trial_checkpoints(over))
            del sizes[over]
            yield over, freed_gib

    def to_beat(self, records: Mapping[int, TrialRecord]) -> float | None:
        """The objective that a trial's model has to beat to be kept; None where it has none to beat, or only
        such as break the constraints."""
        kept = feasible(self._contenders(records), self._space.settings.objective)
        return kept[-1].final_value if len(kept) == (self._space.settings.search.confirm.top or 1) else None

    def _contenders(self, records: Mapping[int, TrialRecord]) -> list[TrialRecord]:
        """What comes after the first look is put in by ``tidy``."""
        if self._best is None:
            self._best = contenders(self._space, list(records.values()))
        return self._best

    def _discard(self, folder: Path) -> None:
        discard(folder, inside=self._folder.root)
