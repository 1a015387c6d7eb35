"""The ledger of a sweep: an Optuna study in a database, which is the only memory that counts.

One process writes: the driver. Every call that changes something has committed it when it returns, so
that a sweep killed at any moment resumes from what the database says: a trial that is RUNNING in it
and has no driver goes on under its own number. Any number of other processes may read at the same
time (``status``, ``optuna-dashboard``). Who writes has read the database once, and knows what it wrote since.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpaceFileError
from sweeper.redact import without_secrets
from sweeper.search.auto import AutoSampler, Past
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
    encoded,
)
from sweeper.search.samplers import SamplerName, check_sampler, direction, distribution
from sweeper.search.stored_study import LATE_NOTE, OWN_OF_TRIAL, StoredStudy

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from sweeper.search.retrying_storage import PatientStorage
    from sweeper.space import Space, Values

__all__ = ["Ledger"]

_UNTRAINED, _UNTRAINED_REAL = "untrained", "untrained_real"
_DIMENSIONS = "dimensions"
_AUTO = "auto"
"""Which ``sampler: auto`` a sweep began with: 2, or none of those that began when it was ``tpe``."""
_SHARES = "shares"
"""Present in sweeps that began when trials took over what others had trained."""
_OWN_OF_STUDY = frozenset({_UNTRAINED, _UNTRAINED_REAL, _DIMENSIONS, _AUTO, _SHARES})


class Ledger:
    """The trials of one sweep. Writing calls come from one thread; reading is safe from any.

    One that has written takes itself for the only writer; one that only reads reads the database each time.
    """

    def __init__(self, storage: PatientStorage, study_id: int, space: Space) -> None:
        """Use ``create`` or ``open``."""
        self._storage, self._study_id, self._space = storage, study_id, space
        self._objective = space.settings.objective
        self._metric: str = self._objective.metric
        self._kept: StoredStudy | None = None
        """Of a ledger that writes."""
        self._auto = AutoSampler()

    @classmethod
    def create(cls, url: str, space: Space) -> Ledger:
        """A new ledger under the sweep's name. The folder of an SQLite file must exist.

        Raises:
            SpaceFileError, MissingDependencyError: the sampler cannot work on this space or here.
            SweepFolderError: the database holds a sweep of this name already, or cannot be opened.
        """
        check_sampler(space)
        ledger = cls(*create_study(url, space.name, direction(space)), space)
        with ledger._writing() as study:
            study.note(_DIMENSIONS, _signature(space))
            study.note(_AUTO, 2)
            study.note(_SHARES, True)
        ledger._kept = None
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
        study = self._kept = self._read()
        if study.waiting:
            return self._start_next() if accept(self.trial(min(study.waiting)).values) else None
        values, ranges = propose_and_extend(self._space, study.searched, self._sampler(), past, self._auto)
        if values is None or not accept(values):
            return None
        is_default = values == self._space.default_values()
        on_proxy = self._space.settings.search.proxy.is_wanted
        return self._start(values, is_default=is_default, ranges=ranges or False, proxy=on_proxy)

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
        with self._writing() as study:
            self._require_open(number)
            name, content = as_attribute(evaluation)
            study.set(number, {name: content})
            if evaluation.tokens:
                objective = float(evaluation.metrics.get(self._metric, math.nan))
                study.set_objective(number, evaluation.tokens, objective)

    def note(self, number: int, **attributes: Any) -> None:
        """Keeps JSON-able attributes with a trial, also with one that is already finished."""
        for name in attributes:
            _check_name(name, OWN_OF_TRIAL)
        with self._writing() as study:
            study.set(number, attributes)

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
        with self._writing() as study:
            record = self._require_open(number)
            if state is TrialState.COMPLETE and (record.value is None or not math.isfinite(record.value)):
                state, reason = TrialState.FAIL, reason or self._without_value(record)
            if reason is not None:
                study.set(number, {"reason": without_secrets(reason)})
            if (second := second_of(replace(record, state=state), self._objective)) is not None:
                study.set(number, {str(self._objective.also): second})
            study.end(number, state, self._value_for_optuna(record, state))

    def pause(self, number: int, chance: float, reason: str) -> None:
        """A running trial gives up its place and keeps its state, until ``go_on``."""
        with self._writing() as study:
            self._require_open(number)
            study.set(number, {"paused": {"chance": chance, "reason": without_secrets(reason)}})

    def go_on(self, number: int, *, to_end: bool) -> TrialRecord:
        """A paused trial runs again; ``to_end``: whatever its chance may become."""
        with self._writing() as study:
            self._require_open(number)
            study.set(number, ({"to_end": True} if to_end else {}) | {"paused": None})
        return self.trial(number)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is committed at its end, all of it or nothing. Nests."""
        with self._writing():
            yield

    def trials(self) -> list[TrialRecord]:
        """All trials by number, as committed."""
        return list(self._read().records.values())

    def trial(self, number: int) -> TrialRecord:
        """One trial, as committed."""
        return self._read().records[number]

    @property
    def records(self) -> Mapping[int, TrialRecord]:
        """All trials by number. For whoever writes: it costs what has changed since the last time."""
        self._kept = self._read()
        return self._kept.records

    @property
    def searched(self) -> Sequence[TrialRecord]:
        """Those of ``records`` that the search asked for."""
        self._kept = self._read()
        return self._kept.searched

    @property
    def waiting(self) -> int:
        """How many trials were not started yet."""
        return len(self._read().waiting)

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
        return _AUTO in self._notes()

    @property
    def shares(self) -> bool:
        """Whether trials take over what others have trained (``search.share``); not in sweeps that began
        before they could, nor where seconds or memory of their own are an objective or a constraint."""
        settings, bounded = self._space.settings, self._objective.constraints or ()
        if settings.engine is not None or any(metric.startswith("perf/") for metric in bounded):
            return False
        own = self._objective.also in ("gpu_seconds", "peak_memory")
        return _SHARES in self._notes() and settings.search.share and not own

    @property
    def untrained(self) -> float | None:
        """The objective of the search's model before any training; None where it was not noted."""
        noted = self._notes().get(_UNTRAINED)
        return None if noted is None else float(noted)

    @property
    def untrained_of_real(self) -> float | None:
        """The same of the real model, where the search has a smaller one."""
        has_smaller = self._space.settings.search.proxy.model_path is not None
        noted = self._notes().get(_UNTRAINED_REAL if has_smaller else _UNTRAINED)
        return None if noted is None else float(noted)

    def note_untrained(self, value: float, *, of_real: bool = False) -> None:
        """Keeps the objective of the model before any training; ``of_real``: where the search has a smaller
        one, of the real one."""
        with self._writing() as study:
            study.note(_UNTRAINED_REAL if of_real else _UNTRAINED, encoded(value))

    def note_sweep(self, **attributes: Any) -> None:
        """Keeps JSON-able attributes with the sweep."""
        for name in attributes:
            _check_name(name, _OWN_OF_STUDY)
        with self._writing() as study:
            for name, value in attributes.items():
                study.note(name, value)

    def sweep_attributes(self) -> dict[str, Any]:
        """What ``note_sweep`` kept."""
        return {name: value for name, value in self._notes().items() if name not in _OWN_OF_STUDY}

    def close(self) -> None:
        """Gives back the calling thread's connection."""
        self._storage.remove_session()

    @contextmanager
    def _writing(self) -> Iterator[StoredStudy]:
        study = self._kept = self._read()
        study.hold()
        try:
            yield study
            study.release()
        except BaseException:
            self._kept = None  # it may be ahead of the database, which is read again
            raise

    def _read(self) -> StoredStudy:
        return self._kept or StoredStudy(self._storage, self._study_id, self._objective)

    def _notes(self) -> Mapping[str, Any]:
        """Of the sweep, the ledger's own among them."""
        if self._kept is not None:
            return self._kept.notes
        notes = self._storage.get_study_user_attrs(self._study_id)
        return {name: value for name, value in notes.items() if not name.startswith(LATE_NOTE)}

    def _require_open(self, number: int) -> TrialRecord:
        record = self.trial(number)
        if record.state not in (TrialState.RUNNING, TrialState.PAUSED):
            raise ValueError(f"trial {number} is {record.state.value}, only a running trial can end or go on")
        return record

    def _train_again(self, number: int, **attributes: Any) -> TrialRecord:
        if self._read().waiting:
            return self._start_next()
        again = self.trial(number)
        return self._start(again.values, ranges=again.attributes.get(RANGES, False), **attributes)

    def _start(self, values: Values, **attributes: Any) -> TrialRecord:
        """Commits a RUNNING trial: from here on its values cannot be lost."""
        with self._writing() as study:
            spans = self._distributions(values, attributes.get(RANGES) or {})
            return self.trial(study.add(values, _attributes(values, attributes), spans))

    def _enqueue(self, values: Values, **attributes: Any) -> None:
        """Commits a WAITING trial, as earlier versions did before they started it."""
        with self._writing() as study:
            study.add(values, _attributes(values, attributes), None)

    def _start_next(self) -> TrialRecord:
        """Makes the oldest WAITING trial RUNNING."""
        with self._writing() as study:
            waiting = self.trial(min(study.waiting))
            spans = self._distributions(waiting.values, waiting.attributes.get(RANGES, {}))
            study.begin(waiting.number, waiting.values, spans)
        return self.trial(waiting.number)

    def _distributions(self, values: Values, ranges: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """What Optuna's own tools are told of the parameters."""
        open_values = in_database(self._space, ranges)
        return {name: distribution(one) for name, one in open_values.items() if name in values}

    def _value_for_optuna(self, record: TrialRecord, state: TrialState) -> float | None:
        """What its own tools show: of a stopped trial the last evaluation's."""
        if state is not TrialState.PRUNED:
            return record.value if state is TrialState.COMPLETE else None
        last = record.evaluations[-1].metrics.get(self._metric, math.nan) if record.evaluations else math.nan
        return None if math.isnan(last) else last

    def _sampler(self) -> SamplerName:
        name = self._space.settings.search.sampler
        return "tpe" if name == "auto" and not self.pauses else name

    def _check_dimensions(self) -> None:
        """What was learned about one space says nothing about another."""
        begun, now = self._notes().get(_DIMENSIONS), _signature(self._space)
        if begun is not None and begun != now:
            changed = [name for name in begun | now if begun.get(name) != now.get(name)]
            raise SpaceFileError.of(
                where=str(self._space.source),
                value=", ".join(changed),
                rule="a sweep keeps the open values that it began with",
                remedy="restore them to resume, or start a sweep of another name",
            )

    def _without_value(self, record: TrialRecord) -> str:
        if record.value is None:
            return "it ended without a single evaluation"
        tokens = record.evaluations[-1].tokens
        return f"{self._metric} is {record.value} at the last evaluation, after {tokens:,} tokens"


def _attributes(values: Values, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"values": dict(values)} | {
        name: value for name, value in attributes.items() if value is not False
    }


def _signature(space: Space) -> dict[str, str]:
    """Dimension name -> its open value in words, and how they grow, to tell one space from another."""
    extend = space.settings.search.extension
    open_values = {dimension.name: str(dimension.open_value) for dimension in space.dimensions}
    return open_values if extend is None else {**open_values, "search.extend": str(extend)}


def _check_name(name: str, own: Iterable[str]) -> None:
    if name in own or name.startswith((EVALUATION, LATE_NOTE)):
        raise ValueError(f"{name} is kept by the ledger itself")
