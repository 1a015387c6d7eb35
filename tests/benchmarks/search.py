"""Search methods on offline tuning tables: what each has found after how many full runs.

    python tests/benchmarks/search.py --tables DIR
    python tests/benchmarks/search.py --tables DIR --only nmtlc,tinker --methods auto --json figures.json

The product's own decisions (`sweeper.search.auto`) drive simulated workers; the built-in history is off.
History comes from the other tasks of the same tables (the task that is solved is never in it), or from
--history DIR. TaskSet: full runs until a loss of the best 1 % was seen, the geometric mean over tasks of
the median over seeds, with the 90th percentile over the median (the worst task) and the share of runs that
never got there. NMTLC and Tinker: regret in 1e-4 nats after so many full runs, the mean over tasks and
seeds. Intervals are 95 %, bootstrap over seeds. syne-tune takes part where it can be imported:

    pip install --no-deps --target DIR syne-tune statsmodels patsy        # and PYTHONPATH=DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from search_methods import BASELINES, Auto, curve_of
from search_simulator import Method, Sweep
from search_tables import TABLES, Task, box_of, in_terms_of, read

from sweeper.history import similarity
from sweeper.search.auto.curves import Curve
from sweeper.search.auto.prior import PastSweep, Prior

BUDGETS = {"taskset": (40.0,), "nmtlc": (1.0, 2.5, 4.0, 8.0), "tinker": (1.0, 2.0, 3.0, 5.0)}
SPARSE = {"taskset": 50, "nmtlc": 14, "tinker": 8}
"""Trials of each past sweep that history knows."""
MOST_REGRET = 0.2
AUTOS = {
    "auto, no history": {},
    "auto, no history, no rule": {"rule": False},
    "auto, no history, never pauses": {"pauses": False},
    "auto, history": {"history": "sparse"},
    "auto, history, all trials": {"history": "all"},
    "auto, history of other families": {"history": "other families"},
    "auto, inverted history": {"history": "inverted"},
    "auto, shuffled history": {"history": "shuffled"},
}


@dataclass(frozen=True)
class Cell:
    """One method on one task with one seed."""

    table: str
    task: int
    method: str
    seed: int
    workers: int


class Bench:
    """Tables and histories, read once in each process."""

    def __init__(self, folder: Path, history: Path | None) -> None:
        self.tasks = {table: read(table, folder) for table in TABLES}
        self.past = self.tasks if history is None else {table: read(table, history) for table in TABLES}

    def solve(self, cell: Cell) -> list[float]:
        """The cell's figures: cost to the target, or regrets."""
        task = self.tasks[cell.table][cell.task]
        budgets = BUDGETS[cell.table]
        is_race = cell.table == "taskset"
        target = float(np.sort(task.bests)[len(task.bests) // 100 - 1]) if is_race else -np.inf
        sweep = Sweep(task, budget=max(budgets), target=target, workers=cell.workers)
        sweep.run(self.method(cell, task))
        if is_race:
            return [min(sweep.reached, budgets[0])]
        return [min(sweep.regret(budget), MOST_REGRET) for budget in budgets]

    def method(self, cell: Cell, task: Task) -> Method:
        if cell.method in BASELINES:
            return BASELINES[cell.method](task, cell.seed)
        options = dict(AUTOS[cell.method])
        history = options.pop("history", None)
        if history is None:
            return Auto(task, cell.seed, box=box_of([task]), **options)
        past = [
            one
            for one in self.past[cell.table]
            if one.name != task.name and (history != "other families" or one.family != task.family)
        ]
        box = box_of([*past, task])
        sweeps, curves = _past(task, past, box, history, cell)
        return Auto(task, cell.seed, box=box, prior=Prior(sweeps), past_curves=curves, **options)


def _past(
    task: Task, past: list[Task], box: tuple[np.ndarray, np.ndarray], history: str, cell: Cell
) -> tuple[list[PastSweep], tuple[tuple[Curve, ...], ...]]:
    rng, low, extent = np.random.default_rng(cell.seed), *box
    sweeps, curves = [], []
    for one in past:
        known = rng.permutation(len(one.curves))
        if history != "all":
            known = known[: SPARSE[cell.table]]
        losses = one.bests[known]
        if history == "inverted":
            losses = -losses
        elif history == "shuffled":
            losses = rng.permutation(losses)
        points = (in_terms_of(task, one)[known] - low) / extent
        sweeps.append(
            PastSweep(points=points, losses=losses, similarity=similarity(task.features, one.features))
        )
        curves.append(tuple(curve_of(one.curves[place], len(one.curves[place])) for place in known))
    return sweeps, tuple(curves)


def summary(table: str, figures: np.ndarray) -> dict[str, list[float] | float]:
    """Of (tasks, seeds, columns): the centre of each column with its interval, and TaskSet's tails."""
    rng, seeds = np.random.default_rng(0), figures.shape[1]
    centre: Callable[[np.ndarray], np.ndarray] = _race if table == "taskset" else _mean
    draws = [centre(np.stack([one[rng.integers(seeds, size=seeds)] for one in figures])) for _ in range(1000)]
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    found: dict[str, list[float] | float] = {
        "value": centre(figures).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }
    if table == "taskset":
        medians, tails = np.median(figures[:, :, 0], 1), np.percentile(figures[:, :, 0], 90, axis=1)
        found["p90"] = float(np.exp(np.log(tails).mean()))
        found["p90_over_median"] = found["p90"] / float(np.exp(np.log(medians).mean()))
        found["never"] = float((figures >= BUDGETS[table][0]).mean())
    return found


def _race(figures: np.ndarray) -> np.ndarray:
    return np.exp(np.log(np.median(figures, 1)).mean(0))


def _mean(figures: np.ndarray) -> np.ndarray:
    return figures.mean((0, 1))


def shown(table: str, found: dict[str, list[float] | float]) -> str:
    """One line of the table."""
    scale, digits = (1.0, 2) if table == "taskset" else (1e4, 1)
    columns = zip(found["value"], found["low"], found["high"], strict=True)
    text = "  ".join(
        f"{scale * a:6.{digits}f} [{scale * b:.{digits}f}, {scale * c:.{digits}f}]" for a, b, c in columns
    )
    if table == "taskset":
        text += (
            f"  p90 {found['p90']:.2f} ({found['p90_over_median']:.1f} x), never {100 * found['never']:.1f} %"
        )
    return text


def verdict(table: str, figures: dict[str, dict[str, Any]]) -> tuple[str, bool | None]:
    """Whether auto without history is the best or tied with it, at each budget, in words and all in all; None
    where there is nothing to compare."""
    own = figures.get("auto, no history")
    peers = {name: found for name, found in figures.items() if name in BASELINES}
    if own is None or not peers:
        return f"{table}: nothing to compare auto, no history, with", None
    said, holds = [], True
    for place, budget in enumerate(BUDGETS[table]):
        better = [name for name, found in peers.items() if found["value"][place] < own["value"][place]]
        ahead = [name for name in better if _is_ahead(peers[name], own, place)]
        word = f"tied with {', '.join(better)}" if better else "best"
        word = f"worse than {', '.join(ahead)}" if ahead else word
        holds = holds and not ahead
        at = "to the best 1 %" if table == "taskset" else f"after {budget:g} runs"
        said.append(f"{at} {word}")
    return f"{table}: auto, no history, against {len(peers)} others: " + "; ".join(said), holds


def _is_ahead(one: dict[str, Any], other: dict[str, Any], place: int) -> bool:
    """Whether the 95 % interval of the difference lies below zero. It is put together from the two intervals
    (Zou and Donner 2008, Statistics in Medicine 27, page 1693): that these overlap is less than being equal.
    """
    above = one["high"][place] - one["value"][place]
    below = other["value"][place] - other["low"][place]
    return bool(one["value"][place] - other["value"][place] + np.hypot(above, below) < 0)


def _asked(beginnings: str) -> list[str]:
    asked = [one for one in (*AUTOS, *BASELINES) if one.startswith(tuple(beginnings.split(";")))]
    if find_spec("syne_tune") is not None:
        return asked
    left = [one for one in asked if not one.startswith("syne-tune")]
    if left != asked:
        print("skipped: syne-tune is not installed")
    return left


_bench: Bench


def _open(folder: Path, history: Path | None) -> None:
    global _bench
    _bench = Bench(folder, history)


def _solve(cell: Cell) -> list[float]:
    return _bench.solve(cell)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, help="the folder of the tables")
    parser.add_argument("--history", type=Path, help="another folder that history comes from")
    parser.add_argument("--only", default=",".join(TABLES))
    parser.add_argument("--methods", default="", help="beginnings of names, `;` between; by default all")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=1, help="simulated ones, of each sweep")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if not chosen.tables.is_dir():
        print(f"skipped: there are no tables in {chosen.tables}")
        return 0
    bench, methods = Bench(chosen.tables, chosen.history), _asked(chosen.methods)
    figures: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(
        chosen.processes, initializer=_open, initargs=(chosen.tables, chosen.history)
    ) as pool:
        for table in chosen.only.split(","):
            for method in methods:
                if table == "tinker" and any(word in method for word in ("+", "ASHA", "pauses")):
                    continue  # without curves there is nothing to stop
                tasks = len(bench.tasks[table])
                cells = [
                    Cell(table, task, method, seed, chosen.workers)
                    for task in range(tasks)
                    for seed in range(chosen.seeds)
                ]
                began = time.monotonic()
                solved = np.array(list(pool.map(_solve, cells, chunksize=4)))
                found = summary(table, solved.reshape(tasks, chosen.seeds, -1))
                figures.setdefault(table, {})[method] = found
                print(
                    f"{table:8s} {method:32s} {shown(table, found)}  ({time.monotonic() - began:.0f} s)",
                    flush=True,
                )
    verdicts = [verdict(table, by_method) for table, by_method in figures.items()]
    print("\n".join(text for text, _ in verdicts))
    compared = [holds for _, holds in verdicts if holds is not None]
    if compared:
        print(f"auto, no history, is best or tied on every table: {'yes' if all(compared) else 'no'}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
