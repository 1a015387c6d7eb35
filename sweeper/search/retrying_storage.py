"""Optuna's storage on a server that may be away for a moment, and with one transaction for all that belongs
together. Imported late: it imports Optuna.

Whatever a call wants is tried again until it is done or patience ends. One process writes a sweep's
study, so repeating is safe: what reads and what sets something under a key changes nothing the second time,
and a new trial is looked for by its number, which only this process gives.

Optuna's own calls commit each attribute, parameter and value by itself, and read the trial before each of
them. What is written here are the rows that they would write.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import UniqueConstraint, event
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError

from sweeper.errors import LedgerAwayError, first_line
from sweeper.search.commits import committing

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["Changes", "PatientStorage", "stored_params"]

_log = logging.getLogger("sweeper.search")

_Result = TypeVar("_Result")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

_REPEATABLE = (
    "get_study_id_from_name",
    "get_study_user_attrs",
    "get_all_studies",
    "get_trial",
    "_get_trials",
)


@dataclass(kw_only=True)
class Changes:
    """What one transaction writes. Trials are named by their ids in the database."""

    attributes: dict[tuple[int, str], str] = field(default_factory=dict)
    """(trial, name) -> JSON."""
    objectives: dict[tuple[int, int], float] = field(default_factory=dict)
    """(trial, training tokens) -> what Optuna calls an intermediate value."""
    notes: dict[str, str] = field(default_factory=dict)
    """Name -> JSON, of the study."""
    begun: dict[int, tuple[datetime, Mapping[str, tuple[float, str]]]] = field(default_factory=dict)
    """Waiting trials that run from this moment on, with their parameters: name -> (value, distribution), as
    ``stored_params`` gives them."""
    ended: dict[int, tuple[datetime, TrialState, float | None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.attributes or self.objectives or self.notes or self.begun or self.ended)


class _Away(Exception):
    """The database did not answer. No error of SQLAlchemy's, which Optuna would try again by its own
    rules: it makes a trial twice when the answer to the first commit was lost."""


class PatientStorage(RDBStorage):
    """Commits each call before it returns, and waits ``patience_s`` for a server that is away.

    Every call may raise LedgerAwayError. Until the database has answered again, a call after that does
    not wait any more.
    """

    def __init__(
        self,
        address: str,
        *,
        shown: str,
        engine_options: dict[str, Any],
        must_exist: bool,
        patience_s: float,
    ) -> None:
        """``shown`` is the address without its password.

        Opening is not patient, and raises what SQLAlchemy and Optuna raise.
        """
        # Optuna puts the schema's version into the address by str.format.
        braced = address.replace("{", "{{").replace("}", "}}")
        super().__init__(braced, engine_kwargs=engine_options, skip_table_creation=must_exist)
        self._shown, self._patience_s, self._gave_up = shown, patience_s, False
        self._upserts: dict[Any, Any] = {}
        """Statements by the table that they write to."""
        event.listen(self.engine, "handle_error", _raise_away)

    def now(self) -> datetime:
        """As the database keeps a moment."""
        now = datetime.now()
        return now.replace(microsecond=0) if self.engine.name == "mysql" else now

    def add_trial(
        self,
        study_id: int,
        number: int,
        attributes: Mapping[str, str],
        params: Mapping[str, tuple[float, str]] | None,
        fixed: str,
    ) -> tuple[int, datetime | None]:
        """Its id, and when it started: a trial waits where it has no ``params`` yet. ``attributes`` and
        ``fixed``, its values for Optuna, are JSON."""
        started = None if params is None else self.now()

        def add(is_repeated: bool) -> tuple[int, datetime | None]:
            with self._transaction() as session:
                if is_repeated:
                    same = session.query(models.TrialModel).filter_by(study_id=study_id, number=number)
                    if (there := same.one_or_none()) is not None:
                        return int(there.trial_id), there.datetime_start
                state = TrialState.WAITING if params is None else TrialState.RUNNING
                trial = models.TrialModel(study_id=study_id, number=number, state=state)
                trial.datetime_start = started
                session.add(trial)
                session.flush()
                trial_id = int(trial.trial_id)
                self._set(session, models.TrialUserAttributeModel, _rows(trial_id, attributes))
                self._set(session, models.TrialSystemAttributeModel, _rows(trial_id, {"fixed_params": fixed}))
                self._set(session, models.TrialParamModel, _param_rows(trial_id, params or {}))
                return trial_id, trial.datetime_start

        return self._patiently(add)

    def write(self, study_id: int, changes: Changes) -> None:
        """All of it or nothing."""
        self._patiently(lambda _: self._write(study_id, changes))

    def _write(self, study_id: int, changes: Changes) -> None:
        with self._transaction() as session:
            attributes = [
                {"trial_id": trial, "key": name, "value_json": json}
                for (trial, name), json in changes.attributes.items()
            ]
            self._set(session, models.TrialUserAttributeModel, attributes)
            objectives = [
                _objective_row(trial, tokens, value) for (trial, tokens), value in changes.objectives.items()
            ]
            self._set(session, models.TrialIntermediateValueModel, objectives)
            notes = [
                {"study_id": study_id, "key": name, "value_json": json}
                for name, json in changes.notes.items()
            ]
            self._set(session, models.StudyUserAttributeModel, notes)
            for trial_id, (started, params) in changes.begun.items():
                trial = session.get_one(models.TrialModel, trial_id)
                trial.state, trial.datetime_start = TrialState.RUNNING, started
                self._set(session, models.TrialParamModel, _param_rows(trial_id, params))
            for trial_id, (ended, state, value) in changes.ended.items():
                trial = session.get_one(models.TrialModel, trial_id)
                trial.state, trial.datetime_complete = state, ended
                if value is not None:
                    self._set(session, models.TrialValueModel, [_value_row(trial_id, value)])

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        session = self.scoped_session()
        try:
            with session.begin():
                yield session
        finally:
            session.close()

    def _set(self, session: Session, model: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, or replace what stands under their keys."""
        if rows:
            session.execute(self._upsert(model), rows)

    def _upsert(self, model: Any) -> Any:
        if model not in self._upserts:
            table = model.__table__
            (unique,) = (one for one in table.constraints if isinstance(one, UniqueConstraint))
            keys = [column.name for column in unique.columns]
            others = [one.name for one in table.columns if one.name not in keys and not one.primary_key]
            if self.engine.name == "mysql":
                new = mysql.insert(table)
                self._upserts[model] = new.on_duplicate_key_update(
                    {name: new.inserted[name] for name in others}
                )
            else:
                insert = postgresql.insert if self.engine.name == "postgresql" else sqlite.insert
                into = insert(table)
                self._upserts[model] = into.on_conflict_do_update(
                    index_elements=keys, set_={name: into.excluded[name] for name in others}
                )
        return self._upserts[model]

    def _patiently(self, call: Callable[[bool], _Result]) -> _Result:
        """``call`` is told whether it was tried before."""
        began, pause_s, is_repeated = time.monotonic(), _FIRST_PAUSE_S, False
        while True:
            try:
                with committing():
                    result = call(is_repeated)
            except _Away as away:  # noqa: PERF203 - trying again is what the loop is for
                left_s = 0.0 if self._gave_up else began + self._patience_s - time.monotonic()
                if left_s <= 0:
                    self._gave_up = True
                    raise self._told(away) from None
                if not is_repeated:
                    _log.warning("%s does not answer (%s): waiting", self._shown, away)
                time.sleep(min(pause_s, left_s))
                pause_s, is_repeated = min(2 * pause_s, _LONGEST_PAUSE_S), True
            else:
                self._gave_up = False
                return result

    def _told(self, away: _Away) -> LedgerAwayError:
        error = LedgerAwayError.of(
            where="the ledger's database",
            value=self._shown,
            rule=f"does not answer ({away})",
            remedy="what was committed is kept; when it answers again, go on with `sweeper resume`",
        )
        assert isinstance(error, LedgerAwayError)
        return error


def stored_params(
    values: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> dict[str, tuple[float, str]]:
    """What ``Changes.begun`` and ``add_trial`` take."""
    return {
        name: (distribution.to_internal_repr(values[name]), distribution_to_json(distribution))
        for name, distribution in distributions.items()
        if name in values
    }


def _rows(trial_id: int, attributes: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"trial_id": trial_id, "key": name, "value_json": json} for name, json in attributes.items()]


def _param_rows(trial_id: int, params: Mapping[str, tuple[float, str]]) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": distribution}
        for name, (value, distribution) in params.items()
    ]


def _objective_row(trial_id: int, tokens: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {
        "trial_id": trial_id,
        "step": tokens,
        "intermediate_value": stored,
        "intermediate_value_type": kind,
    }


def _value_row(trial_id: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": 0, "value": stored, "value_type": kind}


def _repeatable(name: str) -> Callable[..., Any]:
    once = getattr(RDBStorage, name)

    def method(self: PatientStorage, *arguments: Any, **named: Any) -> Any:
        return self._patiently(lambda _: once(self, *arguments, **named))

    return method


for _name in _REPEATABLE:
    setattr(PatientStorage, _name, _repeatable(_name))


def _raise_away(context: Any) -> None:
    """SQLAlchemy asks here what an error of the driver is to become."""
    if context.is_pre_ping:
        return  # a connection that has died in the pool; a new one is opened
    if not isinstance(context.original_exception, Exception):
        return  # somebody has interrupted it, which is no outage
    if context.is_disconnect or isinstance(context.sqlalchemy_exception, (OperationalError, InterfaceError)):
        raise _Away(first_line(context.original_exception)) from None
