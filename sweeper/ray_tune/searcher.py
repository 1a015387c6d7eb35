"""Ray Tune's Searcher, scheduler and callback, all thin: the ledger decides and remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeper.errors import UserError
from sweeper.ray_tune.free_resources import RoomWatch
from sweeper.sweep.recorder import Recorder

__all__ = ["LedgerCallback", "LedgerScheduler", "LedgerSearcher"]


class LedgerSearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """Asks the ledger for the next configuration when there is room for it."""

    def __init__(self, recorder: Recorder, places: Callable[[], int]) -> None:
        """``places`` says how many trials there may be side by side; it is asked again and again."""
        super().__init__()
        self._recorder = recorder
        self._places = places
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        try:
            return self._suggest(trial_id)
        except UserError as error:  # Ray would wrap it into errors of its own
            self._recorder.problem = error
            return str(Searcher.FINISHED)

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._recorder.is_over():
            return str(Searcher.FINISHED)
        if len(self._numbers) >= self._places():
            return None
        try:
            job = self._recorder.next_job()
        except Exception as error:  # Ray would swallow it
            self._recorder.fail(error)
            return str(Searcher.FINISHED)
        if job is None:
            # A space that is exhausted may still be owed a trial that runs now and dies.
            return None if self._numbers else str(Searcher.FINISHED)
        number, body = job
        self._numbers[trial_id] = number
        return {"number": number, "job": body}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers.pop(trial_id, None)
        if number is not None and error and self._recorder.problem is None:
            self._recorder.lost(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it all."""

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles what it is given for a restore that never happens here."""
        return {}


class LedgerScheduler(FIFOScheduler):  # type: ignore[misc]  # ray is untyped
    """Hands each outcome to the recorder, which says whether the trial goes on, and looks after trials that
    wait for a place."""

    def __init__(self, recorder: Recorder, watch: RoomWatch) -> None:
        super().__init__()
        self._recorder, self._watch = recorder, watch

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        try:
            goes_on = self._recorder.record(result["outcome"])
        except Exception as error:  # Ray would take it for the trial's
            self._recorder.fail(error)
            goes_on = False
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any, **options: Any) -> Any:
        """Called all the time, which is what a clock needs."""
        try:
            self._recorder.count_time()
            self._look_after_waiting(tune_controller)
        except Exception as error:
            self._recorder.fail(error)
        return super().choose_trial_to_run(tune_controller, **options)

    def _look_after_waiting(self, tune_controller: Any) -> None:
        """A trial has an actor as soon as it has its place, or that of the one before it."""
        trials = [one for one in tune_controller.get_live_trials() if one.status == one.PENDING]
        for one in trials:
            if one.temporary_state.ray_actor is None and self._recorder.gives_up(one.config["number"]):
                tune_controller.stop_trial(one)
        self._watch.look()

    def __getstate__(self) -> dict[str, Any]:
        """See LedgerSearcher: Ray's snapshots are never read."""
        return {}


class LedgerCallback(Callback):  # type: ignore[misc]  # ray is untyped
    """Tells the recorder of the moment when a trial has got its place."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        try:
            self._recorder.started(trial.config["number"])
        except Exception as error:  # Ray would take it for its own
            self._recorder.fail(error)

    def __getstate__(self) -> dict[str, Any]:
        """See LedgerSearcher: Ray's snapshots are never read."""
        return {}
