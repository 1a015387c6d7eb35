"""One place of a sweep on Ray Tune: runs trial after trial in the same warm rank processes."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory
from ray.util import get_current_placement_group

from sweeper.engines import CommandEngine
from sweeper.errors import CheckpointError, SweeperError, TrialDivergedError, TrialFailedError, UserError
from sweeper.parent_death import die_with_parent
from sweeper.ray_tune.remote_group import RemoteGroup, arrived
from sweeper.redact import without_secrets
from sweeper.remote import TrialExchange
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recovery import recover
from sweeper.training.engine import Engine, Job, Prepared, Progress
from sweeper.training.ranks.group import WorkerGroup, placement_strategy, rank_bundles
from sweeper.training.retention import CheckpointRetention

__all__ = ["TrialRunner"]


class TrialRunner(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Ray Tune's side of the Engine protocol.

    A trial that fails is an outcome, not an exception: Ray throws an actor away when it raises,
    and with it the warm processes.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        job: Job = config["job"]
        if job.config.engine is not None:  # the command is a child of this process, and has its devices
            return PlacementGroupFactory([_summed(rank_bundles(job.config))])
        coordinator: dict[str, float] = {}  # it only waits for the ranks
        strategy = placement_strategy(job.config)
        return PlacementGroupFactory([coordinator, *rank_bundles(job.config)], strategy=strategy)

    def setup(self, config: dict[str, Any], variables: dict[str, str] | None = None) -> None:
        """``variables`` come through Ray's memory: secrets may be among them, and Tune writes ``config``."""
        die_with_parent()  # Ray leaves it behind when the cluster's head and this node's raylet are gone
        self._variables = variables or {}
        os.environ |= self._variables  # what a storage asks for who somebody is may be among them
        self._group: WorkerGroup | CommandEngine | None = None
        self._exchange: TrialExchange | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        try:
            if self._group is not None and self._group.should_recycle():
                self._end_group()
        except SweeperError:  # they died while they were idle
            self._end_group()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._number: int = config["number"]
        job: Job = config["job"]
        self._log_file = job.log_file
        if self._exchange is not None:
            self._exchange.close()
        self._exchange = None
        if job.files is not None:
            job, self._exchange = arrived(job)
        self._go_on_with(job)

    def _go_on_with(self, job: Job) -> None:
        self._job = job
        self._keeper = CheckpointRetention(job)
        self._last: Progress | None = None
        self._prepared: Prepared | None = None

    def step(self) -> dict[str, Any]:
        return {"outcome": self._guarded(self._step)}

    def _step(self) -> Outcome:
        engine, prepared, warnings, last = self._engine(), None, [], self._last
        if self._prepared is None:
            prepared = self._prepared = engine.prepare(self._job)
        elif last is not None and last.tokens and self._job.config.engine is None:
            # That another step is asked for says that the ledger has the evaluation before it.
            warnings += self._keep(lambda: self._keeper.keep_state(engine, last))
            if self._exchange is not None:
                self._exchange.hear()
            if self._job.pause_file is not None and self._job.pause_file.exists():
                return Outcome(number=self._number, paused=True, warning="; ".join(warnings) or None)
        progress = self._last = engine.advance()
        warnings += progress.warnings
        if progress.paused and progress.tokens and self._job.config.engine is None:
            warnings += self._keep(lambda: self._keeper.keep_state(engine, progress))
        elif progress.done:
            told = progress if progress.metrics or last is None else replace(progress, metrics=last.metrics)
            warnings += self._keep(lambda: self._keeper.keep_model(engine, told))
        warning = "; ".join(warnings) or None
        return Outcome(number=self._number, prepared=prepared, progress=progress, warning=warning)

    def _keep(self, write: Callable[[], None]) -> list[str]:
        """A disk without room costs a state, and no trial: training goes on beside it."""
        try:
            write()
            if self._exchange is not None:
                self._exchange.refresh()
        except CheckpointError as error:
            return [str(error)]
        return []

    def _engine(self) -> Engine:
        if self._group is None:
            self._group = self._new_group()
        if isinstance(self._group, RemoteGroup):
            self._group.exchange = self._exchange
        return self._group

    def _new_group(self) -> WorkerGroup | CommandEngine:
        section, pause_wanted = self._job.config.engine, lambda: self._job.pause_is_wanted()
        if section is not None:
            return CommandEngine(section, pause_wanted=pause_wanted, variables=self._variables)
        kind = WorkerGroup if self._exchange is None else RemoteGroup
        return kind(
            self._job.config,
            get_current_placement_group(),
            pause_wanted=pause_wanted,
            variables=self._variables,
        )

    def _guarded(self, step: Callable[[], Outcome]) -> Outcome:
        try:
            return step()
        except UserError as error:
            return Outcome(number=self._number, problem=error.redacted(without_secrets))
        except TrialDivergedError as error:
            return Outcome(number=self._number, failure=without_secrets(str(error)), diverged=True)
        except Exception as error:
            # Whatever state the ranks are in now, nobody may inherit it.
            has_run_before = self._group is not None and self._group.has_run_before
            self._end_group()
            with self._job.log_file.open("a") as log:
                log.write(without_secrets(traceback.format_exc()))
            return self._set_back(error, has_run_before=has_run_before)

    def _set_back(self, error: Exception, *, has_run_before: bool) -> Outcome:
        said = str(error) if isinstance(error, SweeperError) else f"{type(error).__name__}: {error}"
        kind = type(error) if isinstance(error, TrialFailedError) else TrialFailedError
        try:
            job, setback = recover(self._job, kind(without_secrets(said)), has_run_before=has_run_before)
        except TrialFailedError as final:
            return Outcome(number=self._number, failure=f"{final} (see {self._log_file})")
        measured = self._last is not None  # the untrained model, by the first outcome of a trial
        self._go_on_with(replace(job, evaluate_untrained=job.evaluate_untrained and not measured))
        return Outcome(number=self._number, setback=setback)

    def cleanup(self) -> None:
        self._end_group()
        if self._exchange is not None:
            self._exchange.close()

    def _end_group(self) -> None:
        if self._group is not None:
            self._group.shut_down()
            self._group = None


def _summed(bundles: Iterable[dict[str, float]]) -> dict[str, float]:
    """What all ranks of a trial ask for together."""
    summed: Counter[str] = Counter()
    for bundle in bundles:
        summed.update(bundle)
    return dict(summed)
