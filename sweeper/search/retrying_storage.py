"""Optuna's storage on a server that may be away for a moment. Imported late: it imports Optuna.

Whatever a call wants is tried again until it is done or patience ends. One process writes a sweep's
study, so repeating is safe where it can be told whether the try before it, whose answer was lost, has
been committed:

- what reads, and what sets an attribute or a value under a key: the second time changes nothing;
- a trial's state: a trial that has the wanted state already is done;
- a new trial, which would come to stand there twice: it carries a mark, and is looked for by it first.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import InterfaceError, OperationalError

from sweeper.errors import LedgerAwayError, first_line
from sweeper.search.commits import committing

__all__ = ["PatientStorage"]

_log = logging.getLogger("sweeper.search")

_Result = TypeVar("_Result")
_MARK = "sweeper:mark"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

_REPEATABLE = (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "_get_trials",
    "set_study_user_attr",
    "set_study_system_attr",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_trial_intermediate_value",
    "_set_trial_param",
)


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
        event.listen(self.engine, "handle_error", _raise_away)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is None:
            raise ValueError("a trial of a ledger begins with its values")
        mark = uuid.uuid4().hex
        template_trial.system_attrs = {**template_trial.system_attrs, _MARK: mark}

        def create(is_repeated: bool) -> FrozenTrial:
            made = self._marked(study_id, mark) if is_repeated else None
            return made or super(PatientStorage, self)._create_new_trial(study_id, template_trial)

        return self._patiently(create)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        def change(is_repeated: bool) -> bool:
            if is_repeated and super(PatientStorage, self).get_trial(trial_id).state == state:
                return True
            return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)

        return self._patiently(change)

    def _marked(self, study_id: int, mark: str) -> FrozenTrial | None:
        trials = super()._get_trials(study_id, None, set(), -1)
        return next((trial for trial in trials if trial.system_attrs.get(_MARK) == mark), None)

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
