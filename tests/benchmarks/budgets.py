"""Sweeps with a budget of time or money: how much of it they spend, on a machine that is otherwise idle.

    python tests/benchmarks/budgets.py --budgets 60 90

Each sweep is asked for more trials than its budget has room for. Prints for each the budget, what was spent
from the driver's start of trials to the end of the last one, and how many trials were run and how many of
them were cut; exits with 1 where one was more than 5 % over its budget, or where a trial was cut that was
not the last of its place.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from sweeper.commands import open_sweep, run_sweep
from sweeper.search import TrialState

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
TOLERANCE, TRIALS = 0.05, 500


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="+", default=[60, 120], help="seconds")
    parser.add_argument("--places", type=int, default=1, help="trials side by side")
    options = parser.parse_args()
    kept = True
    for seconds in options.budgets:
        kept &= _is_kept(f"time budget of {seconds} s", seconds, options.places, f"time_budget={seconds}s")
    money = options.budgets[-1]  # at 1 a second
    kept &= _is_kept(f"cost budget of {money}", money, options.places, f"cost_budget={money}")
    return 0 if kept else 1


def _is_kept(name: str, seconds: float, places: int, budget: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        result = run_sweep(
            QUICKSTART,
            overrides=[
                f"search.{budget}",
                f"search.trials={TRIALS}",
                "search.stopper=none",
                "resources.price_per_gpu_hour=3600",
                f"resources.max_concurrent={places}",
                "training.epochs=[0.25, 0.5, 1]",
            ],
            out=Path(folder) / "sweep",
        )
        spent_s = float(open_sweep(result.folder)[1].sweep_attributes()["spent_s"])
    cut = [trial.number for trial in result.trials if trial.state is TrialState.PRUNED]
    started = max(trial.attributes.get("startup_s", 0.0) for trial in result.trials)
    share = spent_s / seconds - 1
    print(
        f"{name}: spent {spent_s:.1f} s ({share:+.1%}), {len(result.trials)} trials, {len(cut)} cut, "
        f"the slowest start took {started:.1f} s; {result.ended}"
    )
    return share <= TOLERANCE and len(cut) <= places


if __name__ == "__main__":
    sys.exit(main())
