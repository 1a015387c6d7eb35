"""Whether a change of the code changes what a sweep asks: the trials of simulated sweeps, written down before
it and compared after it, to the last bit.

    python tests/benchmarks/same_trials.py --write before.json     # on the code before the change
    python tests/benchmarks/same_trials.py --compare before.json   # on the code after it

Each sweep has 50 trials on one and on eight workers, with pauses, failures, divergence and runs under other
seeds among them. Both must run on one machine: a Gaussian process has other last bits on another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ten_thousand import Driver, Trainers, simulate
from sweeper.search import Ledger, make_stopper
from sweeper.space import Facts, SweepFolder, load_space
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder

SPACE = """
name: same
model_path: m
data_path: d.jsonl
objective: {evaluations: 10}
search: {history: false}
training:
  lr: {log_uniform: [1.0e-6, 1.0e-2]}
  scheduler: [constant, linear, cosine]
  weight_decay: {uniform: [0.0, 0.2]}
  warmup_ratio: {uniform: [0.0, 0.2]}
  epochs: [1, 2, 3]
"""
DISCRETE = """
name: same
model_path: m
data_path: d.jsonl
objective: {evaluations: 10}
search: {history: false}
training:
  lr: [1.0e-6, 1.0e-5, 3.0e-5, 1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2]
  scheduler: [constant, linear, cosine]
  gradient_accumulation_steps: [1, 2, 4]
"""
SWEEPS = {
    "auto": (SPACE, []),
    "auto, best": (SPACE, ["objective.at=best"]),
    "auto, discrete": (DISCRETE, []),
    "auto, tokens": (SPACE.replace("objective: {evaluations: 10}", "objective: [eval/loss, tokens]"), []),
    "auto, confirm and extend": (
        SPACE.replace("history: false", "history: false, confirm: {top: 2, seeds: 2}, extend: true"),
        [],
    ),
    "tpe": (SPACE, ["search.sampler=tpe"]),
    "tpe, asha": (SPACE, ["search.sampler=tpe", "search.stopper=asha"]),
    "auto, constraint": (
        SPACE.replace("evaluations: 10", "evaluations: 10, constraints: {eval/perplexity: '<= 3'}"),
        [],
    ),
    "auto, asha": (SPACE, ["search.stopper=asha"]),
    "auto, hyperband": (SPACE, ["search.stopper=hyperband"]),
    "random, median": (SPACE, ["search.sampler=random", "search.stopper=median"]),
    "random": (SPACE, ["search.sampler=random"]),
}


class Failing(Trainers):
    def outcome(self, number, config):
        if number % 17 == 5 and self.done.get(number, 0) == 3:
            return Outcome(number=number, failure="its node burned down")
        if config.training.lr > 5e-3 and self.done.get(number, 0) == 2:
            return Outcome(number=number, failure="diverged", diverged=True)
        return super().outcome(number, config)


def trials_of(text, overrides, workers, count):
    with tempfile.TemporaryDirectory() as root:
        file = Path(root) / "space.yaml"
        file.write_text(text)
        facts = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
        space = load_space(file, overrides=[f"search.trials={count}", *overrides], gather=lambda _: facts)
        folder = SweepFolder(Path(root) / "sweep")
        folder.root.mkdir()
        ledger = Ledger.create(folder.study_url, space)
        recorder = Recorder(space, ledger, folder, make_stopper(space), [], data_dir=Path(root))
        simulate(recorder, Driver(lambda: 0.0), Failing(600.0, 10), workers)
        return [
            [
                t.number,
                t.state.value,
                sorted((k, repr(v)) for k, v in t.values.items()),
                repr(t.value),
                t.reason,
                repr(t.chance),
                t.seed,
                t.replicate_of,
                [(e.tokens, repr(dict(e.metrics))) for e in t.evaluations],
                {k: v for k, v in t.attributes.items() if k != "config"},
                hashlib.sha256(json.dumps(t.attributes.get("config"), sort_keys=True).encode()).hexdigest()[
                    :8
                ],
            ]
            for t in Ledger.open(folder.study_url, space).trials()
        ]


def main():
    os.environ["SWEEPER_HISTORY"] = "off"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    parser = argparse.ArgumentParser()
    parser.add_argument("--write")
    parser.add_argument("--compare")
    parser.add_argument("--only", default="")
    parser.add_argument("--trials", type=int, default=50)
    o = parser.parse_args()
    found = {}
    for name, (text, overrides) in SWEEPS.items():
        for workers in (1, 8):
            key = f"{name}, {workers} workers"
            if o.only and o.only not in key:
                continue
            t = time.perf_counter()
            found[key] = json.loads(json.dumps(trials_of(text, overrides, workers, o.trials)))
            states = [one[1] for one in found[key]]
            print(
                key, {s: states.count(s) for s in set(states)}, f"{time.perf_counter() - t:.0f} s", flush=True
            )
    if o.write:
        Path(o.write).write_text(json.dumps(found))
    if o.compare:
        before = json.loads(Path(o.compare).read_text())
        bad = [k for k in found if found[k] != before[k]]
        for k in bad:
            for a, b in zip(before[k], found[k]):
                if a != b:
                    print("DIFFERS", k, "\n ", a, "\n ", b)
                    break
        print("different:", bad)
        return int(bool(bad))


sys.exit(main())
