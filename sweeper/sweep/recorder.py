"""What happens in a sweep goes through here: first to the ledger, then to whoever wants to know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sweeper.autotune import Speed, Tuning
from sweeper.data import LengthSample
from sweeper.errors import TrialFailedError
from sweeper.remote import DriverFiles
from sweeper.search import (
    Evaluation,
    Ledger,
    Past,
    Pause,
    StopDecision,
    Stopper,
    TrialRecord,
    TrialState,
    asked_config,
    begun,
)
from sweeper.space import Config, Space, SweepFolder, dump_config, write_whole
from sweeper.sweep.budget import SPENT, Budget, Forecast
from sweeper.sweep.listener import Listener
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.queue import TrialQueue
from sweeper.sweep.recovery import SystemConfigs, TrialRestart, recover_lost, retries_of
from sweeper.sweep.sharing import Sharing, Start
from sweeper.sweep.steps import append_steps
from sweeper.sweep.trial_files import TrialFiles
from sweeper.training import STARTUP, Job, Prepared, Progress

__all__ = ["Recorder"]

_TOO_LARGE = "too_large"
"""What the ledger keeps of the sweep: what did not fit into memory."""
_COUNT_EVERY_S, _LOOK_EVERY_S = 30.0, 1.0


class Recorder:
    """The only writer of a running sweep's ledger; lives in the driver's thread that Ray Tune runs in."""

    def __init__(
        self,
        space: Space,
        ledger: Ledger,
        folder: SweepFolder,
        stopper: Stopper,
        listeners: Sequence[Listener],
        *,
        data_dir: Path,
        speed: Speed | None = None,
        sample: LengthSample | None = None,
        tunings: tuple[Tuning, ...] = (),
        past: Past | None = None,
        clock: Callable[[], float] = time.monotonic,
        began_s: float | None = None,
        sharing: Sharing | None = None,
        proxy_data_dir: Path | None = None,
        remote: DriverFiles | None = None,
    ) -> None:
        """``speed`` and ``sample`` tell how long trials take, as long as the sweep's own do not; ``past`` are
        other sweeps; ``began_s`` is what the clock said when the driver began, where that was before.
        ``data_dir`` are the rows of the real thing, ``proxy_data_dir`` those of the search's proxy, where it
        has one."""
        self._space, self._ledger, self._folder = space, ledger, folder
        self._stopper, self._listeners, self._clock = stopper, listeners, clock
        self._data_dirs = {False: data_dir, True: proxy_data_dir or data_dir}
        self._sharing = sharing or Sharing(space, ledger, folder, rows=None)
        attributes = ledger.sweep_attributes()
        self._spent_before_s = float(attributes.get(SPENT, 0.0))
        self._systems = SystemConfigs(space, self._data_dirs, tunings, attributes.get(_TOO_LARGE, []))
        self._sharing.close = self._systems.of_values
        self._began = clock() if began_s is None else began_s
        self._counted = self._looked = clock()
        self._files = TrialFiles(space, folder, remote)
        self._budget = Budget(space, Forecast(space, speed, sample), self._spent_s)
        running = [record for record in self._records.values() if record.state is TrialState.RUNNING]
        self._queue = TrialQueue(
            space=space, ledger=ledger, stopper=stopper, budget=self._budget, past=past, unfinished=running
        )
        self._pausing: dict[int, Pause] = {}
        """Trials that write their states to pause."""
        self._configs: dict[int, Config] = {}
        self._to_announce: dict[int, tuple[Config, list[str], Start]] = {}
        """Trials that no listener has heard of yet: what was asked, warnings, and how they begin."""
        self._measures_untrained: dict[bool, int] = {}
        """Which trial does: of the search's model, and of the real one where that is another."""
        self.stopping = False
        self.problem: Exception | None = None
        """Why the sweep cannot go on: something to mend, or a ledger that takes nothing more."""

    # What the searcher asks ------------------------------------------------------------------

    def is_over(self) -> bool:
        """Whether no further trial may start."""
        return self.stopping or self._budget.is_spent()

    def next_job(self) -> tuple[int, Job] | None:
        """The next trial's number and job, or None when the space has no further configuration, or none that
        fits into the budget."""
        while True:
            while isinstance(record := self._queue.next(self._records), Pause):
                self._pause(self._queue.unfinished.pop(0).number, record)
            if record is None:
                return None
            number, job = self._job(record)
            if job is not None:
                return number, job

    def _job(self, record: TrialRecord) -> tuple[int, Job | None]:
        """None where the trial is answered already."""
        is_first = len(self._records) == 1 and "config" not in record.attributes
        number, asked = record.number, asked_config(self._space, record)
        self._files.watch(number)
        config = self._systems.of(asked)
        evaluate_untrained = self._shall_measure_untrained(number)
        with self._ledger.together():
            self._note_config(number, config)
            start = self._start(number, config, may_fork=not evaluate_untrained)
        self._sharing.tidy(self._all())
        warnings = [self._budget.warning(asked) if is_first else None, start.warning]
        self._to_announce[number] = (asked, [one for one in warnings if one], start)
        if start.same_as is not None:
            self._answer(number, start.same_as)
            return number, None
        return number, self._files.job(
            number,
            config,
            start,
            data_dir=self._data_dirs[record.is_proxy],
            keeps_model=record.replicate_of is None and not record.is_proxy,
            evaluate_untrained=evaluate_untrained,
            retries=retries_of(record),
            best_so_far=self._files.to_beat(self._records),
        )

    def _start(self, number: int, config: Config, *, may_fork: bool) -> Start:
        record = self._records[number]
        if self._space.settings.search.proxy.is_wanted and not record.is_proxy:
            return Start()  # nothing else has trained the same
        return self._sharing.begin(record, config, self._all(), may_fork=may_fork)

    def _answer(self, number: int, twin: TrialRecord) -> None:
        """By what another trial, which trained the same, has found."""
        self.started(number)
        if twin.attributes.get("diverged"):
            self._ledger.note(number, diverged=True)
        self._finish(number, twin.state, f"same as trial {twin.number}")

    def ask_to_stop(self) -> None:
        """No further trial starts, and those that run write their states and pause."""
        self.stopping = True
        self._files.ask_all_to_pause()

    def fail(self, problem: Exception) -> None:
        """The sweep cannot go on."""
        self.problem = self.problem or problem
        self.ask_to_stop()

    def count_time(self) -> None:
        """Called all the time: commits now and then what was spent, so that a driver that is killed has not
        worked for nothing, has the running trials pause when the budget is used up, and tells how far they
        are."""
        if self._clock() - self._counted > _COUNT_EVERY_S:
            self._commit_time()
        if self._clock() - self._looked > _LOOK_EVERY_S:
            self._look_at_trials()
        if self._budget.must_pause():
            self._files.ask_all_to_pause()

    def conclude(self) -> None:
        """Commit what was spent in all, and why there is no further trial."""
        self._commit_time()
        self._sharing.tidy(self._all())
        self._ledger.note_sweep(
            ended=self._budget.ending(begun(self._records.values()), self._space.settings.search.trials)
        )

    def _look_at_trials(self) -> None:
        self._looked = self._clock()
        for number, moved in self._files.news():
            for listener in self._listeners:
                listener.moved(number, moved)

    # What the scheduler and Ray report -------------------------------------------------------

    def started(self, number: int) -> None:
        """A trial has got its place. Listeners hear of it once, before anything else of the trial."""
        if number not in self._to_announce:
            return
        asked, warnings, start = self._to_announce.pop(number)
        for listener in self._listeners:
            listener.trial_started(number, self._records[number], asked)
            for taken in start.told:
                listener.progressed(number, taken)
        for warning in warnings:
            self._take_warning(number, warning)

    def gives_up(self, number: int) -> bool:
        """Whether a trial that has no place yet is not to wait for one any longer. It goes on later, unless
        the budget is spent."""
        if not (self.stopping or self._budget.pauses):
            return False
        self._to_announce.pop(number, None)
        self._take_pause(number)
        return True

    def record(self, outcome: Outcome) -> bool:
        """Commit one outcome; returns whether its trial goes on."""
        number = outcome.number
        self.started(number)
        if outcome.warning is not None:
            self._take_warning(number, outcome.warning)
        if outcome.problem is not None:
            # The trial is not to blame: it stays unfinished, and a resumed sweep begins with it.
            self.fail(outcome.problem)
            return False
        if outcome.failure is not None:
            if outcome.diverged:
                self._ledger.note(number, diverged=True)
            return self._finish(number, TrialState.FAIL, outcome.failure)
        if outcome.setback is not None:
            return self._take_setback(number, outcome.setback)
        if outcome.paused:
            return self._pause(number, self._pausing[number])
        assert outcome.progress is not None
        with self._ledger.together():
            if outcome.prepared is not None:
                self._take_prepared(number, outcome.prepared)
            self._commit_progress(number, outcome.progress)
        return self._take_progress(number, outcome.progress)

    def lost(self, number: int) -> None:
        """A trial whose actor is gone. It is begun again; nothing to do when it had already ended."""
        self.started(number)
        record = self._records[number]
        if record.state.is_finished:
            return
        try:
            setback = recover_lost(record, self._configs[number], self._folder.trial_log(number))
        except TrialFailedError as error:
            self._finish(number, TrialState.FAIL, str(error))
            return
        self._take_setback(number, setback)
        self._queue.unfinished.append(self._records[number])

    # -----------------------------------------------------------------------------------------

    def _shall_measure_untrained(self, number: int) -> bool:
        """Once per sweep, and once more of the real model where the search has a smaller one; again only when
        the trial that was to do it is gone without having done it."""
        of_real = self._has_other_model(number)
        other = self._measures_untrained.get(of_real, number)
        at_work = other != number and not self._records[other].state.is_finished
        known = self._ledger.untrained_of_real if of_real else self._ledger.untrained
        if known is not None or at_work:
            return False
        self._measures_untrained[of_real] = number
        return True

    def _has_other_model(self, number: int) -> bool:
        """Than the trials that the search asks for."""
        is_smaller = self._space.settings.search.proxy.model_path is not None
        return is_smaller and not self._records[number].is_proxy

    def _take_prepared(self, number: int, prepared: Prepared) -> None:
        self._ledger.note(
            number,
            total_tokens=prepared.total_tokens,
            total_steps=prepared.total_steps,
            model_notes=list(prepared.model_notes),
        )
        fork = self._records[number].attributes.get("fork")
        if prepared.not_forked and fork:
            self._take_warning(number, f"{self._sharing.lose(number, fork)} ({prepared.not_forked})")
        on_proxy = self._records[number].is_proxy
        if (peak_gib := self._systems.predicted_gib(self._configs[number], on_proxy=on_proxy)) is not None:
            idle_gib = prepared.idle_memory_gib
            self._ledger.note(number, predicted_memory_gib=idle_gib + peak_gib, idle_memory_gib=idle_gib)
        if prepared.ds_config:
            write_whole(self._folder.trial_ds_config(number), json.dumps(prepared.ds_config, indent=2) + "\n")
        for listener in self._listeners:
            listener.trial_prepared(number, prepared)

    def _take_setback(self, number: int, setback: TrialRestart) -> bool:
        if setback.out_of_memory:
            too_large = self._systems.add_too_large(self._configs[number])
            self._ledger.note_sweep(**{_TOO_LARGE: too_large})
            self._sharing.forget(number)
        earlier = self._records[number].attributes.get("setbacks", [])
        now = {"reason": setback.reason, "out_of_memory": setback.out_of_memory}
        self._ledger.note(number, setbacks=[*earlier, now])
        self._note_config(number, setback.config)
        for listener in self._listeners:
            listener.trial_set_back(number, setback)
        return not self.stopping

    def _take_warning(self, number: int, warning: str) -> None:
        earlier = self._records[number].attributes.get("warnings", [])
        self._ledger.note(number, warnings=[*earlier, warning])
        for listener in self._listeners:
            listener.warned(number, warning)

    def _note_config(self, number: int, config: Config) -> None:
        self._configs[number] = config
        tree, file = config.model_dump(mode="json"), self._folder.trial_config(number)
        if tree != self._records[number].attributes.get("config") or not file.exists():
            write_whole(file, dump_config(config))
            self._ledger.note(number, config=tree)

    def _commit_progress(self, number: int, progress: Progress) -> None:
        metric = self._space.settings.objective.metric
        append_steps(self._folder.trial_steps(number), progress.steps)
        if progress.metrics and not progress.paused:  # a pause may tell how long its trial took to start
            self._ledger.report(
                number,
                Evaluation(
                    tokens=progress.tokens,
                    step=progress.step,
                    seconds=progress.seconds,
                    metrics=progress.metrics,
                    time_s=progress.time_s,
                ),
            )
        if progress.tokens == 0 and not progress.paused:
            self._ledger.note_untrained(progress.metrics[metric], of_real=self._has_other_model(number))
        elif progress.tokens and STARTUP in progress.metrics:
            self._ledger.note(number, startup_s=progress.metrics[STARTUP])
        self._commit_time()

    def _take_progress(self, number: int, progress: Progress) -> bool:
        for listener in self._listeners:
            listener.progressed(number, progress)
        if progress.paused:
            return self._take_pause(number)
        if progress.done:
            return self._finish(number, TrialState.COMPLETE, None)
        if progress.tokens == 0 or self.stopping:
            return True  # to a pause, with its state
        reason = self._reason_to_stop(number)
        if isinstance(reason, Pause):
            self._pausing[number] = reason
            self._files.ask_to_pause(number)
            return True  # for as long as it takes to write its state
        return True if reason is None else self._finish(number, TrialState.PRUNED, reason)

    def _pause(self, number: int, pause: Pause) -> bool:
        self._pausing.pop(number, None)
        self._ledger.pause(number, pause.chance, pause.reason)
        self._files.forget(number)
        for listener in self._listeners:
            listener.trial_paused(self._records[number])
        for other, size_gib in self._files.drop_states(number, self._records):
            gone = f"its state of {size_gib:.2g} GiB had to go (search.paused_gib)"
            self._finish(other, TrialState.PRUNED, f"{self._records[other].reason}; {gone}")
        return False

    def _take_pause(self, number: int) -> bool:
        """By somebody's wish the trial goes on later; for the budget's sake it has ended."""
        if self._budget.pauses and not self.stopping:
            return self._finish(number, TrialState.PRUNED, self._budget.reason)
        return False

    def _reason_to_stop(self, number: int) -> StopDecision:
        record, records = self._records[number], self._all()
        if self._budget.ends_here(record, self._configs[number], records):
            return self._budget.reason
        if not record.is_searched:
            return None  # it is compared at its end
        return self._stopper.decide(number, self._ledger.searched, self._ledger.untrained)

    def _finish(self, number: int, state: TrialState, reason: str | None) -> bool:
        self._ledger.finish(number, state, reason)
        self._files.forget(number)
        self._files.tidy(number, self._records)
        self._sharing.tidy(self._all())
        for listener in self._listeners:
            listener.trial_finished(self._records[number])
        return False

    @property
    def _records(self) -> Mapping[int, TrialRecord]:
        """As the ledger has them now."""
        return self._ledger.records

    def _all(self) -> list[TrialRecord]:
        return list(self._records.values())

    def _spent_s(self) -> float:
        return self._spent_before_s + self._clock() - self._began

    def _commit_time(self) -> None:
        self._counted = self._clock()
        self._ledger.note_sweep(**{SPENT: self._spent_s()})
