"""The trials of anybody's Optuna study, to be imported into history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.errors import SweepFolderError
from sweeper.history import ForeignTrial
from sweeper.redact import masked
from sweeper.search.database import open_database
from sweeper.search.storage import absolute_address

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["read_study"]


def read_study(url: str, name: str) -> tuple[list[ForeignTrial], float]:
    """The trials that ended, and when the first began, in seconds since the epoch.

    Raises:
        SweepFolderError: there is no such database or study, or it has more than one objective.
    """
    import optuna

    storage = open_database(absolute_address(url), must_exist=True)
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError as error:
        names = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise _wrong(url, name, "there is no study of this name", f"its studies are: {names}") from error
    if len(study.directions) > 1:
        raise _wrong(url, name, "the study has more than one objective", "import one of a single objective")
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    starts = [one.datetime_start.timestamp() for one in trials if one.datetime_start is not None]
    return [_foreign(one) for one in trials], min(starts, default=0.0)


def _foreign(trial: FrozenTrial) -> ForeignTrial:
    import optuna

    seen = {float(step): value for step, value in trial.intermediate_values.items()}
    complete = trial.state is optuna.trial.TrialState.COMPLETE
    if complete and trial.value is not None:
        seen[max(seen, default=1.0)] = trial.value
    duration = trial.duration
    return ForeignTrial(
        number=trial.number,
        values={**trial.params, **trial.user_attrs},
        evaluations=sorted(seen.items()),
        is_complete=complete,
        seconds=None if duration is None else duration.total_seconds(),
    )


def _wrong(url: str, name: str, rule: str, remedy: str) -> SweepFolderError:
    return SweepFolderError.of(where=masked(url), value=name, rule=rule, remedy=remedy)
