"""A sweep's study in memory, in step with the database.

It is read once. After that whoever writes puts the same into both, so that a question costs what has
changed and not what is there. Nothing is in memory that is not in the database: content goes through JSON
on its way into both, and a record is made by the same function from what was read and from what was written.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sweeper.search.records import (
    EVALUATION,
    Evaluation,
    TrialRecord,
    TrialState,
    decisive_of,
    evaluations_of,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from sweeper.search.retrying_storage import PatientStorage
    from sweeper.space import Objective, Values

__all__ = ["LATE_NOTE", "OWN_OF_TRIAL", "StoredStudy"]

LATE_NOTE = "trial/"
"""How the name of a note of the study begins that belongs to a trial which had ended; its number and the
note's name follow."""
OWN_OF_TRIAL = frozenset("values is_default reason paused to_end replicate_of seed proxy real_of".split())


@dataclass(kw_only=True)
class _StoredTrial:
    """The rows of one trial."""

    number: int
    trial_id: int
    state: TrialState
    params: Values
    attributes: dict[str, Any]
    late: dict[str, Any] = field(default_factory=dict)
    """What was noted after its end."""
    started: datetime | None = None
    ended: datetime | None = None

    @classmethod
    def of(cls, trial: FrozenTrial) -> _StoredTrial:
        return cls(
            number=trial.number,
            trial_id=trial._trial_id,
            state=TrialState[trial.state.name],
            params=dict(trial.params),
            attributes=dict(trial.user_attrs),
            started=trial.datetime_start,
            ended=trial.datetime_complete,
        )


class StoredStudy:
    """What is written is in the database when the call returns; between ``hold`` and ``release``, when
    ``release`` returns. After any error the study must be read anew."""

    def __init__(self, storage: PatientStorage, study_id: int, objective: Objective) -> None:
        """Reads all of it."""
        from sweeper.search.retrying_storage import Changes

        self._storage, self._study_id, self._objective = storage, study_id, objective
        self.notes: dict[str, Any] = {}
        """Of the study, without those of its trials."""
        self._trials = {
            one.number: _StoredTrial.of(one) for one in storage.get_all_trials(study_id, deepcopy=False)
        }
        for name, value in storage.get_study_user_attrs(study_id).items():
            self._take_note(name, value)
        self._changed = set(self._trials)
        self._records: dict[int, TrialRecord] = {}
        self._searched: list[TrialRecord] = []
        self._places: dict[int, int] = {}
        """Number of a trial that the search asked for -> its place among those."""
        self.waiting = {one.number for one in self._trials.values() if one.state is TrialState.WAITING}
        self._lock = threading.Lock()
        self._changes, self._held = Changes(), 0

    @property
    def records(self) -> Mapping[int, TrialRecord]:
        """By number, rising. Changes with the study."""
        with self._lock:  # of two threads the later one is not to put down what was before
            for number in sorted(self._changed):
                self._changed.discard(number)
                self._take(_record(self._trials[number], self._objective))
        return self._records

    @property
    def searched(self) -> Sequence[TrialRecord]:
        """Those of them that the search asked for."""
        _ = self.records
        return self._searched

    def _take(self, record: TrialRecord) -> None:
        self._records[record.number] = record
        place = self._places.get(record.number)
        if place is not None:
            self._searched[place] = record
        elif record.is_searched:
            self._places[record.number] = len(self._searched)
            self._searched.append(record)

    def state(self, number: int) -> TrialState:
        """As Optuna calls it: RUNNING for a paused one. Raises KeyError where there is no such trial."""
        return self._trials[number].state

    def add(
        self,
        values: Values,
        attributes: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution] | None,
    ) -> int:
        """The number of a new trial, which runs; without ``distributions`` it waits."""
        from sweeper.search.retrying_storage import stored_params

        number, texts = len(self._trials), {name: json.dumps(value) for name, value in attributes.items()}
        trial_id, started = self._storage.add_trial(
            self._study_id,
            number,
            texts,
            None if distributions is None else stored_params(values, distributions),
            json.dumps(values),
        )
        self._trials[number] = _StoredTrial(
            number=number,
            trial_id=trial_id,
            state=TrialState.WAITING if distributions is None else TrialState.RUNNING,
            params={} if distributions is None else dict(values),
            attributes={name: json.loads(text) for name, text in texts.items()},
            started=started,
        )
        self._changed.add(number)
        if distributions is None:
            self.waiting.add(number)
        return number

    def begin(self, number: int, values: Values, distributions: Mapping[str, BaseDistribution]) -> None:
        """A trial that waits runs now."""
        from sweeper.search.retrying_storage import stored_params

        trial = self._trials[number]
        trial.state, trial.params = TrialState.RUNNING, dict(values)
        self.waiting.discard(number)
        trial.started = self._storage.now()
        self._changes.begun[trial.trial_id] = trial.started, stored_params(values, distributions)
        self._written(number)

    def set(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Attributes of a trial; of one that has ended they stand with the study, since Optuna freezes it."""
        trial = self._trials[number]
        for name, value in attributes.items():
            text = json.dumps(value)
            if trial.state.is_finished:
                trial.late[name] = json.loads(text)
                self._changes.notes[f"{LATE_NOTE}{number}/{name}"] = text
            else:
                trial.attributes[name] = json.loads(text)
                self._changes.attributes[trial.trial_id, name] = text
        self._written(number)

    def set_objective(self, number: int, tokens: int, value: float) -> None:
        """What Optuna's own tools show of an evaluation."""
        self._changes.objectives[self._trials[number].trial_id, tokens] = value
        self._written(number)

    def end(self, number: int, state: TrialState, value: float | None) -> None:
        """``value`` is for Optuna's own tools."""
        import optuna

        trial = self._trials[number]
        trial.state, trial.ended = state, self._storage.now()
        self._changes.ended[trial.trial_id] = trial.ended, optuna.trial.TrialState[state.value], value
        self._written(number)

    def note(self, name: str, value: Any) -> None:
        """Of the study."""
        text = json.dumps(value)
        self._take_note(name, json.loads(text))
        self._changes.notes[name] = text
        self._written()

    def hold(self) -> None:
        """What is written from now on is one transaction. Nests."""
        self._held += 1

    def release(self) -> None:
        """Ends ``hold``; the outermost one commits."""
        self._held -= 1
        self._written()

    def _written(self, number: int | None = None) -> None:
        from sweeper.search.retrying_storage import Changes

        if number is not None:
            self._changed.add(number)
        if not self._held and self._changes:
            changes, self._changes = self._changes, Changes()
            self._storage.write(self._study_id, changes)

    def _take_note(self, name: str, value: Any) -> None:
        number, _, late = name.removeprefix(LATE_NOTE).partition("/")
        if name.startswith(LATE_NOTE):
            self._trials[int(number)].late[late] = value
        else:
            self.notes[name] = value


def _record(trial: _StoredTrial, objective: Objective) -> TrialRecord:
    attributes = {**trial.attributes, **trial.late}
    measured = evaluations_of(attributes)
    evaluations = tuple(one for one in measured if one.tokens)
    decisive = decisive_of(evaluations, objective)
    paused = (attributes.get("paused") if trial.state is TrialState.RUNNING else None) or {}
    return TrialRecord(
        number=trial.number,
        state=TrialState.PAUSED if paused else trial.state,
        values=dict(attributes.get("values", trial.params)),
        value=None if decisive is None else decisive.metrics.get(objective.metric, float("nan")),
        decisive=decisive,
        evaluations=evaluations,
        untrained=next((one for one in measured if not one.tokens), None),
        reason=paused.get("reason") if paused else attributes.get("reason"),
        chance=paused.get("chance"),
        to_end=bool(attributes.get("to_end", False)),
        seconds=_seconds(trial, evaluations),
        started_s=None if trial.started is None else trial.started.timestamp(),
        ended_s=None if trial.ended is None else trial.ended.timestamp(),
        is_default=bool(attributes.get("is_default", False)),
        replicate_of=attributes.get("replicate_of"),
        seed=attributes.get("seed"),
        is_proxy=bool(attributes.get("proxy", False)),
        real_of=attributes.get("real_of"),
        attributes=_noted(attributes.items()),
    )


def _noted(attributes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: value
        for name, value in attributes
        if name not in OWN_OF_TRIAL and not name.startswith(EVALUATION)
    }


def _seconds(trial: _StoredTrial, evaluations: tuple[Evaluation, ...]) -> float | None:
    """Its own time: neither the start of its processes nor the time between two drivers is in it."""
    if evaluations:
        return evaluations[-1].seconds
    if trial.started is not None and trial.ended is not None:
        return (trial.ended - trial.started).total_seconds()
    return None
