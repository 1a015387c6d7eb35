"""Ray Tune's Searcher and scheduler, both thin: the ledger decides and remembers."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeper.drive.recorder import Recorder
from sweeper.errors import UserError

__all__ = ["LedgerScheduler", "LedgerSearcher"]


class LedgerSearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """Asks the ledger for the next configuration when there is room for it."""

    def __init__(self, recorder: Recorder, max_concurrent: int) -> None:
        super().__init__()
        self._recorder = recorder
        self._max_concurrent = max_concurrent
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
        if len(self._numbers) >= self._max_concurrent:
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
    """Hands each outcome to the recorder, which says whether the trial goes on."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

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
        except Exception as error:
            self._recorder.fail(error)
        return super().choose_trial_to_run(tune_controller, **options)

    def __getstate__(self) -> dict[str, Any]:
        """See LedgerSearcher: Ray's snapshots are never read."""
        return {}
