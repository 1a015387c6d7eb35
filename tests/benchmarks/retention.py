"""Does a bound on what is forgotten give a model that is nearly as good and forgets half as much?

    python tests/benchmarks/retention.py                                # the packaged model and rows
    python tests/benchmarks/retention.py --model PATH --data gsm8k_train.jsonl

PATH is SmolLM2, for example. Two sweeps of as many trials and one seed, both measuring retention by the
model's own answers: one chooses by the loss alone, the other under a bound of half of what the first one's
winner forgot. Prints both winners, and whether the bounded one is within 1 % of the loss.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import sweeper
from sweeper.quickstart import DATA_FILE
from sweeper.search import TrialRecord

INCREASE = "eval/retention_increase"


def main() -> None:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="builtin:quickstart")
    parser.add_argument("--data", type=Path, default=DATA_FILE)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--max-seq-len", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    with arguments.data.open(encoding="utf-8") as source:
        (folder / "rows.jsonl").write_text("".join(itertools.islice(source, arguments.rows)))
    free, free_s = swept(arguments, folder, "free", {})
    bound = forgotten(free) / 2
    constraints = {INCREASE: f"<= {bound:.6g}"}
    bounded, bounded_s = swept(arguments, folder, "bounded", {"constraints": constraints})
    for name, best, seconds in (("by the loss alone", free, free_s), ("bounded", bounded, bounded_s)):
        values = ", ".join(f"{key} {value:.4g}" for key, value in best.values.items())
        print(f"{name}: eval/loss {best.value:.4f}, {INCREASE} {forgotten(best):.4f} ({values})")
        print(f"  in {seconds:.0f} s")
    worse, kept = 100 * (bounded.value / free.value - 1), forgotten(bounded) <= bound
    print(f"the bound is {bound:.4f}; {'kept' if kept else 'not kept by any trial'}")
    print(f"the loss is {worse:+.2f} %: {'within' if kept and worse <= 1 else 'not within'} 1 % of the best")


def swept(
    arguments: argparse.Namespace, folder: Path, name: str, objective: dict[str, Any]
) -> tuple[TrialRecord, float]:
    """The winner, and the seconds that the sweep took."""
    tree = {
        "name": name,
        "model_path": arguments.model,
        "data_path": str(folder / "rows.jsonl"),
        "eval_data": 0.1,
        "training": {
            "lr": "auto",
            "epochs": [1, 2],
            "weight_decay": [0.0, 0.1],
            "per_device_batch_size": arguments.batch,
            "gradient_accumulation_steps": 1,
            "max_seq_len": arguments.max_seq_len,
        },
        "deepspeed": {"zero_stage": 0},
        "evaluation": {"retention": "auto"},
        "objective": {"evaluations": 4, **objective},
        "search": {"trials": arguments.trials, "seed": arguments.seed, "stopper": "none"},
        "checkpoints": {"model": "none"},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(tree))
    began = time.perf_counter()
    result = sweeper.run(file, out=folder / name)
    assert result.best is not None
    return result.best, time.perf_counter() - began


def forgotten(trial: TrialRecord) -> float:
    assert trial.decisive is not None
    return trial.decisive.metrics[INCREASE]


if __name__ == "__main__":
    main()
