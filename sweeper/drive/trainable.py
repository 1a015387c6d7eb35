"""One place of a sweep on Ray Tune: runs trial after trial in the same warm rank processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory
from ray.util import get_current_placement_group

from sweeper.errors import SweeperError, TrialDivergedError, UserError
from sweeper.redact import without_secrets
from sweeper.train.engine import Engine, Job, Prepared, Progress
from sweeper.train.group import WorkerGroup, rank_bundles
from sweeper.train.retention import Keeper

__all__ = ["Outcome", "TrialRunner"]

_COORDINATOR = {"CPU": 0.001}
"""This actor only waits for the ranks; Ray wants more than nothing."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step of a trial came to: progress, or why there is none."""

    number: int
    prepared: Prepared | None = None
    """With the first outcome of a trial."""
    progress: Progress | None = None
    failure: str | None = None
    diverged: bool = False
    """Whether the failure is the configuration's own: the sampler learns from it."""
    problem: UserError | None = None
    """Something that the user must mend: it would meet every other trial as well."""


class TrialRunner(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Ray Tune's side of the Engine protocol.

    A trial that fails is an outcome, not an exception: Ray throws an actor away when it raises,
    and with it the warm processes.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        job: Job = config["job"]
        return PlacementGroupFactory([_COORDINATOR, *rank_bundles(job.config)], strategy="PACK")

    def setup(self, config: dict[str, Any]) -> None:
        self._group: WorkerGroup | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self._group is not None and self._group.grown():
            self._end_group()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._number: int = config["number"]
        self._job: Job = config["job"]
        self._keeper = Keeper(self._job)
        self._last: Progress | None = None
        self._prepared = False

    def step(self) -> dict[str, Any]:
        return {"outcome": self._guarded(self._step)}

    def _step(self) -> Outcome:
        engine = self._engine()
        prepared = None if self._prepared else engine.prepare(self._job)
        self._prepared = True
        if self._last is not None and self._last.tokens:
            # That another step is asked for says that the ledger has the evaluation before it.
            self._keeper.keep_state(engine, self._last)
        self._last = engine.advance()
        if self._last.done:
            self._keeper.keep_model(engine, self._last)
        return Outcome(number=self._number, prepared=prepared, progress=self._last)

    def _engine(self) -> Engine:
        if self._group is None:
            self._group = WorkerGroup(self._job.config, get_current_placement_group(), first_bundle=1)
        return self._group

    def _guarded(self, step: Callable[[], Outcome]) -> Outcome:
        try:
            return step()
        except UserError as error:
            return Outcome(number=self._number, problem=error.redacted(without_secrets))
        except TrialDivergedError as error:
            return Outcome(number=self._number, failure=without_secrets(str(error)), diverged=True)
        except Exception as error:
            # Whatever state the ranks are in now, the next trial must not inherit it.
            self._end_group()
            with self._job.log_file.open("a") as log:
                log.write(without_secrets(traceback.format_exc()))
            text = str(error) if isinstance(error, SweeperError) else f"{type(error).__name__}: {error}"
            told = without_secrets(f"{text} (see {self._job.log_file})")
            return Outcome(number=self._number, failure=told)

    def cleanup(self) -> None:
        self._end_group()

    def _end_group(self) -> None:
        if self._group is not None:
            self._group.shut_down()
            self._group = None
