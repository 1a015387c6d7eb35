"""The ledger of a sweep: an Optuna study in a database, which is the only memory that counts.

One process writes: the driver. Every call that changes something has committed it when it returns, so
that a sweep killed at any moment resumes from what the database says: a trial that is RUNNING in it
and has no driver goes on under its own number. Any number of other processes may read at the same
time (``status``, ``optuna-dashboard``).

In the study a trial's parameters are its searched values under their short names, its intermediate
values are the objective by training tokens seen, and its user attributes hold the rest:

===================== ==================================================================
``values``            the searched values as given, each with its own type
``is_default``        present on the rules of thumb
``reason``            why it was stopped or failed
``evaluation/TOKENS`` all metrics of the evaluation after TOKENS training tokens
``paused``            of a paused trial: its chance to beat the best, and why it was paused
``to_end``            present where nothing may pause the trial again
``ranges``            of a trial that was asked for in wider ranges than the file's: see ``extending``
``gpu_seconds``...    the second objective, for Optuna's own tools: here it follows from evaluations
``replicate_of``      the trial whose values this one trains again, under ``seed``
``proxy``             present on trials that were trained on the search's proxy
``real_of``           the one of these whose values this trial trains on the real thing
anything else         what the driver noted
===================== ==================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpaceFileError
from sweeper.redact import without_secrets
from sweeper.search.auto import Past
from sweeper.search.database import create_study, open_database, open_study, study_names
from sweeper.search.extending import RANGES, in_database, propose_and_extend
from sweeper.search.finals.confirm import chosen
from sweeper.search.front import second_of
from sweeper.search.records import (
    EVALUATION,
    Evaluation,
    TrialRecord,
    TrialState,
    as_attribute,
    decisive_of,
    encoded,
    evaluations_of,
    searched,
)
from sweeper.search.samplers import (
    SamplerName,
    check_sampler,
    direction,
    distribution,
    suggest_fixed,
)

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from sweeper.space import Space, Values

__all__ = ["Ledger"]

_LATE_NOTE = "trial/"
_UNTRAINED, _UNTRAINED_REAL = "untrained", "untrained_real"
_DIMENSIONS = "dimensions"
_AUTO = "auto"
"""Which ``sampler: auto`` a sweep began with: 2, or none of those that began when it was ``tpe``."""
_SHARES = "shares"
"""Present in sweeps that began when trials took over what others had trained."""
_OWN_OF_TRIAL = frozenset("values is_default reason paused to_end replicate_of seed proxy real_of".split())
_OWN_OF_STUDY = frozenset({_UNTRAINED, _UNTRAINED_REAL, _DIMENSIONS, _AUTO, _SHARES})


class Ledger:
    """The trials of one sweep. Writing calls come from one thread; reading is safe from any."""

    def __init__(self, storage: BaseStorage, study: Study, space: Space) -> None:
        """Use ``create`` or ``open``."""
        self._storage = storage
        self._study = study
        self._space = space
        self._objective = space.settings.objective
        self._metric: str = self._objective.metric
        self._study_id = storage.get_study_id_from_name(study.study_name)

    @classmethod
    def create(cls, url: str, space: Space) -> Ledger:
        """A new ledger under the sweep's name. The folder of an SQLite file must exist.

        Raises:
            SpaceFileError, MissingDependencyError: the sampler cannot work on this space or here.
            SweepFolderError: the database holds a sweep of this name already, or cannot be opened.
        """
        check_sampler(space)
        storage, study = create_study(url, space.name, direction(space))
        ledger = cls(storage, study, space)
        study.set_user_attr(_DIMENSIONS, _signature(space))
        study.set_user_attr(_AUTO, 2)
        study.set_user_attr(_SHARES, True)
        return ledger

    @classmethod
    def exists(cls, url: str, space: Space) -> bool:
        """Whether there is one: a driver may die between the space file and the ledger.

        Raises SweepFolderError where the database cannot be opened.
        """
        return space.name in study_names(open_database(url, must_exist=False))

    @classmethod
    def open(cls, url: str, space: Space) -> Ledger:
        """The ledger of an existing sweep, to read it or to go on with it.

        Raises:
            SweepFolderError: there is no such database, or no sweep of this name in it.
        """
        return cls(*open_study(url, space.name), space)

    def ask(
        self, accept: Callable[[Values], bool] = lambda _: True, past: Past | None = None
    ) -> TrialRecord | None:
        """Starts the next trial, which the sampler proposes; ``past`` are other sweeps that it may go by.

        None: the search has no further configuration, because each one of a discrete space was asked; or
        ``accept`` refuses the next one. Nothing is committed then, and the same will be proposed again.

        Raises:
            SpaceFileError: the open values are not those that this sweep began with.
        """
        self._check_dimensions()
        records = self.trials()
        waiting = next((record for record in records if record.state is TrialState.WAITING), None)
        if waiting is not None:
            return self._start_next() if accept(waiting.values) else None
        values, ranges = propose_and_extend(self._space, searched(records), self._sampler(), past)
        if values is None or not accept(values):
            return None
        is_default = values == self._space.default_values()
        on_proxy = self._space.settings.search.proxy.is_wanted
        self._enqueue(values, is_default=is_default, ranges=ranges or False, proxy=on_proxy)
        return self._start_next()

    def replicate(self, number: int, seed: int) -> TrialRecord:
        """Starts the values of a trial again, under another seed; a trial that waits comes first."""
        return self._train_again(number, replicate_of=number, seed=seed)

    def train_real(self, number: int) -> TrialRecord:
        """Starts the values of a trial on the proxy on the real thing; a trial that waits comes first."""
        is_default = self.trial(number).is_default
        return self._train_again(number, real_of=number, is_default=is_default)

    def report(self, number: int, evaluation: Evaluation) -> None:
        """Commits one evaluation; a second one at the same number of tokens replaces the first.

        One at 0 tokens is of the untrained model: this trial has measured it, and is not measured by it.
        """
        trial_id = self._trial_id(number)
        self._storage.set_trial_user_attr(trial_id, *as_attribute(evaluation))
        if evaluation.tokens == 0:
            return
        objective = float(evaluation.metrics.get(self._metric, math.nan))
        self._storage.set_trial_intermediate_value(trial_id, evaluation.tokens, objective)

    def note(self, number: int, **attributes: Any) -> None:
        """Keeps JSON-able attributes with a trial, also with one that is already finished.

        Optuna freezes a finished trial, so what comes after that is kept with the study.
        """
        trial_id = self._trial_id(number)
        is_late = self._storage.get_trial(trial_id).state.is_finished()
        for name, value in attributes.items():
            _check_name(name, _OWN_OF_TRIAL)
            if is_late:
                self._study.set_user_attr(f"{_LATE_NOTE}{number}/{name}", value)
            else:
                self._storage.set_trial_user_attr(trial_id, name, value)

    def finish(self, number: int, state: TrialState, reason: str | None = None) -> None:
        """Ends a running trial as COMPLETE, PRUNED or FAIL; secrets are struck out of the reason.

        COMPLETE takes the objective of the last evaluation, or of the best one (``objective.at``). Where that
        is not finite, or there is no evaluation, the trial is FAIL, whatever was said, and its reason
        says why.

        Raises:
            ValueError: the state is not one of the three, or the trial is not running.
        """
        if not state.is_finished:
            raise ValueError(f"a trial ends as COMPLETE, PRUNED or FAIL, not as {state.value}")
        import optuna

        trial_id = self._trial_id(number)
        record = self._record(self._storage.get_trial(trial_id), {})
        if record.state not in (TrialState.RUNNING, TrialState.PAUSED):
            raise ValueError(f"trial {number} is {record.state.value}, only a running trial can end")
        if state is TrialState.COMPLETE and (record.value is None or not math.isfinite(record.value)):
            state, reason = TrialState.FAIL, reason or self._without_value(record)
        if reason is not None:
            self._storage.set_trial_user_attr(trial_id, "reason", without_secrets(reason))
        value = record.value if state is TrialState.COMPLETE else None
        if (second := second_of(replace(record, state=state), self._objective)) is not None:
            self._storage.set_trial_user_attr(trial_id, str(self._objective.also), second)
        self._study.tell(number, value, state=optuna.trial.TrialState[state.value])

    def pause(self, number: int, chance: float, reason: str) -> None:
        """A running trial gives up its place and keeps its state, until ``go_on``."""
        paused = {"chance": chance, "reason": without_secrets(reason)}
        self._storage.set_trial_user_attr(self._trial_id(number), "paused", paused)

    def go_on(self, number: int, *, to_end: bool) -> TrialRecord:
        """A paused trial runs again; ``to_end``: whatever its chance may become."""
        trial_id = self._trial_id(number)
        if to_end:
            self._storage.set_trial_user_attr(trial_id, "to_end", True)
        self._storage.set_trial_user_attr(trial_id, "paused", None)
        return self.trial(number)

    def trials(self) -> list[TrialRecord]:
        """All trials by number, as committed."""
        late = self._late_notes()
        trials = self._study.get_trials(deepcopy=False)
        return [self._record(trial, late.get(trial.number, {})) for trial in trials]

    def trial(self, number: int) -> TrialRecord:
        """One trial, as committed."""
        trial = self._storage.get_trial(self._trial_id(number))
        return self._record(trial, self._late_notes().get(number, {}))

    def best(self) -> TrialRecord | None:
        """The trial that the sweep chooses, see ``chosen``; None where none is COMPLETE."""
        return chosen(self._space, self.trials())

    def default(self) -> TrialRecord | None:
        """The trial of the rules of thumb; None before it was asked."""
        return next((record for record in self.trials() if record.is_default), None)

    @property
    def pauses(self) -> bool:
        """Whether ``stopper: auto`` pauses trials: in sweeps that began when it stopped the hopeless, it
        does not."""
        return _AUTO in self._study.user_attrs

    @property
    def shares(self) -> bool:
        """Whether trials take over what others have trained (``search.share``); not in sweeps that began
        before they could, nor where seconds or memory of their own are an objective or a constraint."""
        settings, bounded = self._space.settings, self._objective.constraints or ()
        if settings.engine is not None or any(metric.startswith("perf/") for metric in bounded):
            return False
        own = self._objective.also in ("gpu_seconds", "peak_memory")
        return _SHARES in self._study.user_attrs and settings.search.share and not own

    @property
    def untrained(self) -> float | None:
        """The objective of the search's model before any training; None where it was not noted."""
        noted = self._study.user_attrs.get(_UNTRAINED)
        return None if noted is None else float(noted)

    @property
    def untrained_of_real(self) -> float | None:
        """The same of the real model, where the search has a smaller one."""
        has_smaller = self._space.settings.search.proxy.model_path is not None
        noted = self._study.user_attrs.get(_UNTRAINED_REAL if has_smaller else _UNTRAINED)
        return None if noted is None else float(noted)

    def note_untrained(self, value: float, *, of_real: bool = False) -> None:
        """Keeps the objective of the model before any training; ``of_real``: where the search has a smaller
        one, of the real one."""
        self._study.set_user_attr(_UNTRAINED_REAL if of_real else _UNTRAINED, encoded(value))

    def note_sweep(self, **attributes: Any) -> None:
        """Keeps JSON-able attributes with the sweep."""
        for name, value in attributes.items():
            _check_name(name, _OWN_OF_STUDY)
            self._study.set_user_attr(name, value)

    def sweep_attributes(self) -> dict[str, Any]:
        """What ``note_sweep`` kept."""
        return {
            name: value
            for name, value in self._study.user_attrs.items()
            if name not in _OWN_OF_STUDY and not name.startswith(_LATE_NOTE)
        }

    def close(self) -> None:
        """Gives back the calling thread's connection."""
        self._storage.remove_session()

    def _train_again(self, number: int, **attributes: Any) -> TrialRecord:
        if all(record.state is not TrialState.WAITING for record in self.trials()):
            again = self.trial(number)
            self._enqueue(again.values, ranges=again.attributes.get(RANGES, False), **attributes)
        return self._start_next()

    def _enqueue(self, values: Values, **attributes: Any) -> None:
        """Commits a WAITING trial: from here on its values cannot be lost."""
        notes = {name: value for name, value in attributes.items() if value is not False}
        self._study.enqueue_trial(dict(values), user_attrs={"values": dict(values), **notes})

    def _start_next(self) -> TrialRecord:
        """Makes the oldest WAITING trial RUNNING and gives its values to Optuna as parameters."""
        trial = self._study.ask()
        values: Values = trial.user_attrs["values"]
        for name, open_value in in_database(self._space, trial.user_attrs.get(RANGES, {})).items():
            if name in values:
                suggest_fixed(trial, name, distribution(open_value))
        return self._record(self._storage.get_trial(self._trial_id(trial.number)), {})

    def _sampler(self) -> SamplerName:
        name = self._space.settings.search.sampler
        return "tpe" if name == "auto" and not self.pauses else name

    def _check_dimensions(self) -> None:
        """What was learned about one space says nothing about another."""
        begun, now = self._study.user_attrs.get(_DIMENSIONS), _signature(self._space)
        if begun is not None and begun != now:
            changed = [name for name in begun | now if begun.get(name) != now.get(name)]
            raise SpaceFileError.of(
                where=str(self._space.source),
                value=", ".join(changed),
                rule="a sweep keeps the open values that it began with",
                remedy="restore them to resume, or start a sweep of another name",
            )

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _late_notes(self) -> dict[int, dict[str, Any]]:
        notes: dict[int, dict[str, Any]] = {}
        for key, value in self._study.user_attrs.items():
            if key.startswith(_LATE_NOTE):
                number, _, name = key.removeprefix(_LATE_NOTE).partition("/")
                notes.setdefault(int(number), {})[name] = value
        return notes

    def _record(self, trial: FrozenTrial, late: Mapping[str, Any]) -> TrialRecord:
        attributes = {**trial.user_attrs, **late}
        measured = evaluations_of(attributes)
        evaluations = tuple(one for one in measured if one.tokens)
        decisive = decisive_of(evaluations, self._objective)
        state = TrialState[trial.state.name]
        paused = (attributes.get("paused") if state is TrialState.RUNNING else None) or {}
        return TrialRecord(
            number=trial.number,
            state=TrialState.PAUSED if paused else state,
            values=dict(attributes.get("values", trial.params)),
            value=None if decisive is None else decisive.metrics.get(self._metric, math.nan),
            decisive=decisive,
            evaluations=evaluations,
            untrained=next((one for one in measured if not one.tokens), None),
            reason=paused.get("reason") if paused else attributes.get("reason"),
            chance=paused.get("chance"),
            to_end=bool(attributes.get("to_end", False)),
            seconds=_seconds(trial, evaluations),
            started_s=None if trial.datetime_start is None else trial.datetime_start.timestamp(),
            ended_s=None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
            is_default=bool(attributes.get("is_default", False)),
            replicate_of=attributes.get("replicate_of"),
            seed=attributes.get("seed"),
            is_proxy=bool(attributes.get("proxy", False)),
            real_of=attributes.get("real_of"),
            attributes={
                name: value
                for name, value in attributes.items()
                if name not in _OWN_OF_TRIAL and not name.startswith(EVALUATION)
            },
        )

    def _without_value(self, record: TrialRecord) -> str:
        if record.value is None:
            return "it ended without a single evaluation"
        tokens = record.evaluations[-1].tokens
        return f"{self._metric} is {record.value} at the last evaluation, after {tokens:,} tokens"


def _signature(space: Space) -> dict[str, str]:
    """Dimension name -> its open value in words, and how they grow, to tell one space from another."""
    extend = space.settings.search.extension
    open_values = {dimension.name: str(dimension.open_value) for dimension in space.dimensions}
    return open_values if extend is None else {**open_values, "search.extend": str(extend)}


def _check_name(name: str, own: Iterable[str]) -> None:
    if name in own or name.startswith((EVALUATION, _LATE_NOTE)):
        raise ValueError(f"{name} is kept by the ledger itself")


def _seconds(trial: FrozenTrial, evaluations: tuple[Evaluation, ...]) -> float | None:
    """Its own time: neither the start of its processes nor the time between two drivers is in it."""
    if evaluations:
        return evaluations[-1].seconds
    if trial.datetime_start is not None and trial.datetime_complete is not None:
        return (trial.datetime_complete - trial.datetime_start).total_seconds()
    return None
