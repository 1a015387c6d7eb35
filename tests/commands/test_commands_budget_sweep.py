"""A whole sweep with a time budget, on real Ray and DeepSpeed.

How close it comes to its budget is for ``tests/benchmarks/budgets.py``, on a machine that is free: on one
that is busy the start of a worker, which nothing can interrupt, may take longer than the budget.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.commands import run_sweep
from sweeper.search import TrialState

pytestmark = pytest.mark.usefixtures("running_ray")

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
ASKED = 500


def test_a_sweep_with_a_time_budget_ends_by_it_and_cuts_no_trial_that_fits(tmp_path):
    result = run_sweep(
        QUICKSTART,
        overrides=[
            "search.time_budget=15s",
            f"search.trials={ASKED}",
            "search.stopper=none",
            "resources.max_concurrent=1",
            "resources.cpus_per_rank=1",
            "training.epochs=[0.25, 0.5]",
            "objective.evaluations=2",
        ],
        out=tmp_path / "sweep",
    )
    run = len(result.trials)
    assert 1 <= run < ASKED
    assert result.ended.startswith(f"the time budget (15s) is spent: {run} of {ASKED} trials were run")
    *earlier, last = result.trials
    assert all(trial.state is TrialState.COMPLETE for trial in earlier)
    if last.state is not TrialState.COMPLETE:
        assert (last.state, last.reason) == (TrialState.PRUNED, "the time budget is spent")
