"""How much of the difference between good trials and others each value explains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.search.extending import space_in_force
from sweeper.search.front import ranked
from sweeper.search.records import TrialRecord
from sweeper.search.samplers import direction, distribution

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = ["LEAST_FOR_IMPORTANCE", "importances"]

LEAST_FOR_IMPORTANCE = 8
_LEAST_GOOD = 5
"""Of few trials more than a tenth count as good: one or two have no distribution."""


def importances(space: Space, records: Sequence[TrialRecord]) -> dict[str, float]:
    """Dimension name -> its part of one, the largest first, by Optuna's PED-ANOVA (Watanabe et al. 2023,
    arXiv:2304.10255) over the complete trials.

    Only of what every complete trial has: a value that stands under a condition is left out. Empty where
    fewer than ``LEAST_FOR_IMPORTANCE`` trials are complete, or fewer than two dimensions are left.
    """
    complete = ranked(records, space.settings.objective)
    asked = [
        one
        for one in space_in_force(space, records).dimensions
        if all(one.name in record.values for record in complete)
    ]
    if len(complete) < LEAST_FOR_IMPORTANCE or len(asked) < 2:
        return {}
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spans = {one.name: distribution(one.open_value) for one in asked}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is marked as experimental
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction=direction(space))
        study.add_trials(
            [
                optuna.create_trial(
                    value=record.final_value,
                    params={name: record.values[name] for name in spans},
                    distributions=spans,
                )
                for record in complete
            ]
        )
        quantile = min(max(0.1, _LEAST_GOOD / len(complete)), 0.5)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = optuna.importance.get_param_importances(study=study, evaluator=evaluator)
    optuna.logging.set_verbosity(verbosity)
    return {name: float(part) for name, part in found.items()}
