"""A sweep's trials as tables of pandas, which is imported when one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.recommend.table import results_rows

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.search import TrialRecord
    from sweeper.space import Space

__all__ = ["curves_frame", "trials_frame"]


def trials_frame(space: Space, trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row for each trial, the best first, with the columns of results.csv: ``rank``, ``trial``,
    ``state``, ``default``, the metric, ``better_than_default_percent``, the searched values, ``tokens``,
    ``seconds``, ``peak_memory_gib``, ``reason`` and more."""
    import pandas as pd

    return pd.DataFrame(results_rows(space, trials)).convert_dtypes()


def curves_frame(trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row for each evaluation, in the order of trials and tokens: ``trial``, ``tokens`` (seen in
    training), ``step``, ``seconds`` (of the trial, until then) and a column for each metric."""
    import pandas as pd

    rows = [
        {
            "trial": record.number,
            "tokens": one.tokens,
            "step": one.step,
            "seconds": one.seconds,
            **one.metrics,
        }
        for record in trials
        for one in record.evaluations
    ]
    return pd.DataFrame(rows, columns=None if rows else ["trial", "tokens", "step", "seconds"])
