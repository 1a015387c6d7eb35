"""Whether a change of the code changes what a sweep asks: the trials of simulated sweeps, written down before
it and compared after it, to the last bit.

    python tests/benchmarks/same_trials.py --write before.json     # on the code before the change
    python tests/benchmarks/same_trials.py --compare before.json   # on the code after it

Each sweep has 50 trials on one and on eight workers, with pauses, failures, divergence and runs under other
seeds among them. Both must run on one machine: a Gaussian process has other last bits on another. Exits
with 1 where a trial differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from simulated_trainers import SPACE, Driver, Trainers, simulate, space_of

from sweeper.search import Ledger, TrialRecord, make_stopper
from sweeper.space import Config, SweepFolder
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder

DISCRETE = """
name: same
model_path: m
data_path: d.jsonl
search: {history: false}
training:
  lr: [1.0e-6, 1.0e-5, 3.0e-5, 1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2]
  scheduler: [constant, linear, cosine]
  gradient_accumulation_steps: [1, 2, 4]
"""
CONFIRMED = SPACE.replace("history: false", "history: false, confirm: {top: 2, seeds: 2}, extend: true")
BOUND = SPACE + "objective: {constraints: {eval/perplexity: '<= 3'}}\n"
SWEEPS = {
    "auto": (SPACE, []),
    "auto, best": (SPACE, ["objective.at=best"]),
    "auto, discrete": (DISCRETE, []),
    "auto, tokens": (SPACE + "objective: [eval/loss, tokens]\n", []),
    "auto, confirm and extend": (CONFIRMED, []),
    "auto, constraint": (BOUND, []),
    "tpe": (SPACE, ["search.sampler=tpe"]),
    "tpe, asha": (SPACE, ["search.sampler=tpe", "search.stopper=asha"]),
    "auto, asha": (SPACE, ["search.stopper=asha"]),
    "auto, hyperband": (SPACE, ["search.stopper=hyperband"]),
    "random, median": (SPACE, ["search.sampler=random", "search.stopper=median"]),
}


class FailingTrainers(Trainers):
    """Some lose their nodes, and large rates diverge."""

    def outcome(self, number: int, config: Config) -> Outcome:
        if number % 17 == 5 and self.done[number] == 3:
            return Outcome(number=number, failure="its node burned down")
        if config.training.lr > 5e-3 and self.done[number] == 2:
            return Outcome(number=number, failure="diverged", diverged=True)
        return super().outcome(number, config)


def trials_of(text: str, overrides: list[str], workers: int, trials: int) -> list[Any]:
    """In simulated time alone, so that the order of events is always the same."""
    with tempfile.TemporaryDirectory() as root:
        evaluations = ["objective.evaluations=10"] if "tokens]" not in text else []
        space = space_of(Path(root), [f"search.trials={trials}", *evaluations, *overrides], text)
        folder = SweepFolder(Path(root) / "sweep")
        folder.root.mkdir()
        ledger = Ledger.create(folder.study_url, space)
        recorder = Recorder(space, ledger, folder, make_stopper(space), [], data_dir=Path(root))
        simulate(recorder, Driver(lambda: 0.0), FailingTrainers(600.0, 10), workers)
        return [as_plain(one) for one in Ledger.open(folder.study_url, space).trials()]


def as_plain(one: TrialRecord) -> list[Any]:
    """Without its clock; numbers in all their digits."""
    evaluations = [(each.tokens, repr(dict(each.metrics))) for each in one.evaluations]
    told = [one.state.value, sorted((name, repr(value)) for name, value in one.values.items()), one.reason]
    return [one.number, *told, repr(one.value), repr(one.chance), one.seed, evaluations, one.attributes]


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--only", default="", help="sweeps whose names have this in them")
    parser.add_argument("--trials", type=int, default=50)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    for name, (text, overrides) in SWEEPS.items():
        for workers in (1, 8):
            key = f"{name}, {workers} workers"
            if chosen.only in key:
                began_s = time.perf_counter()
                trials = trials_of(text, overrides, workers, chosen.trials)
                found[key] = json.loads(json.dumps(trials))
                print(f"{key}: {len(trials)} trials, {time.perf_counter() - began_s:.0f} s", flush=True)
    if chosen.write:
        chosen.write.write_text(json.dumps(found))
    before = json.loads(chosen.compare.read_text()) if chosen.compare else found
    different = [key for key in found if found[key] != before[key]]
    for key in different:
        pairs = zip(before[key], found[key], strict=False)
        print(f"{key} differs, first in", *next((pair for pair in pairs if pair[0] != pair[1]), ()), sep="\n")
    print(f"{len(different)} of {len(found)} sweeps differ")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
