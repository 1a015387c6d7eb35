"""A sweep in MLflow: told as it happens, or told again from the ledger and the sweep's folder.

Both give the same content, because each moment that MLflow is told is one that the ledger has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeper.search import Ledger, TrialRecord, TrialState, asked_config, front_of
from sweeper.space import Space, SweepFolder
from sweeper.sweep.tracking import TrackingListener, named_parameters
from sweeper.track import Content, Tracker, boards_of, tracking_uri

__all__ = ["Mirror"]

_LEAST_S, _BOARD_PATIENCE_S = 1.0, 90.0
"""A board is given so much time in any case, and no more than this: MLflow is the record."""


class Mirror:
    """Owns the tracker of a sweep whose ledger exists, and the boards beside it. Only ``close`` waits."""

    def __init__(
        self, space: Space, folder: SweepFolder, ledger: Ledger, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        """``warn`` is told at once that a board is lost."""
        self._space, self._folder, self._ledger = space, folder, ledger
        self._tracker = Tracker(
            uri=tracking_uri(space.settings, folder.root),
            experiment=space.experiment,
            log_path=folder.logs_dir / "mlflow.log",
            remedy=f"sweeper sync {folder.root}",
        )
        sweep_id = str(ledger.sweep_attributes()["id"])
        self._boards = boards_of(space, folder, sweep_id=sweep_id, warn=warn)

    @property
    def listener(self) -> TrackingListener:
        """Of what happens from now on."""
        return TrackingListener([self._tracker, *self._boards], self._space, self._tags())

    def replay(self) -> None:
        """Tell of the sweep and of all its trials so far."""
        self._announce()
        listener = self.listener
        for record in self._ledger.trials():
            if record.state is not TrialState.WAITING:
                config = asked_config(self._space, record)
                listener.replay(record, config, self._folder.trial_steps(record.number))

    def conclude(self, state: str) -> None:
        """Tell of the end; ``state`` is finished, interrupted or failed."""
        records, best = self._ledger.trials(), self._ledger.best()
        artifacts, tags, metrics = [self._folder.space_file], {}, {}
        if state == "finished":
            answer = [self._folder.results_csv, self._folder.results_markdown, self._folder.best_config]
            artifacts += [path for path in answer if path.is_file()]
        if state == "finished" and best is not None:
            tags = {"best_trial": str(best.number), **_description(self._folder.results_markdown)}
            metrics = {"best": best.value or 0.0}
        front = [one.number for one in front_of(records, self._space.settings.objective)]
        if state == "finished" and front:
            tags["pareto_trials"] = ", ".join(map(str, front))
        if saved := sum(one.saved_tokens for one in records):
            metrics["saved_tokens"] = float(saved)
        self._tracker.sweep_finished(
            state=state,
            artifacts=artifacts,
            tags=tags,
            metrics=metrics,
            trial_tags=_pareto_tags(records, front) if state == "finished" else {},
            at_s=_last_moment_s(records),
        )

    def close(self, timeout_s: float) -> list[str]:
        """See Tracker.close; ``timeout_s`` is for all together."""
        deadline = time.monotonic() + timeout_s
        warnings = self._tracker.close(timeout_s)
        for board in self._boards:
            left_s = max(deadline - time.monotonic(), _LEAST_S)
            warnings += board.close(min(left_s, _BOARD_PATIENCE_S))
        return warnings

    def content(self) -> Content | None:
        """See Tracker.content."""
        return self._tracker.content()

    def _announce(self) -> None:
        attributes = self._ledger.sweep_attributes()
        following = set(self._space.following())
        settings = named_parameters(self._space, self._space.close(self._space.default_values()))
        self._tracker.sweep_started(
            name=self._space.name,
            params={name: value for name, value in settings.items() if name not in following},
            tags=self._tags() | {"sweeper.sweep_id": str(attributes["id"])},
            space_file=self._folder.space_file,
            at_s=attributes.get("started_s"),
        )

    def _tags(self) -> dict[str, str]:
        """What every run of the sweep carries, as the driver noted it."""
        return dict(self._ledger.sweep_attributes().get("tags", {}))


def _description(results: Path) -> dict[str, str]:
    """The final table as what MLflow shows at the top of the sweep's run."""
    return {"mlflow.note.content": results.read_text()} if results.is_file() else {}


def _pareto_tags(records: Sequence[TrialRecord], front: Sequence[int]) -> dict[int, dict[str, str]]:
    """For each complete trial whether it is on the front, where there is one: a resumed sweep may have put
    another one in its place."""
    complete = [one.number for one in records if front and one.state is TrialState.COMPLETE]
    return {number: {"pareto": "yes" if number in front else "no"} for number in complete}


def _last_moment_s(records: Sequence[TrialRecord]) -> float | None:
    """In seconds since the epoch; None where nothing has happened yet."""
    moments = [moment for one in records for moment in (one.started_s, one.ended_s) if moment is not None]
    moments += [one.evaluations[-1].time_s or 0.0 for one in records if one.evaluations]
    return max(moments, default=None)
