"""The sweeps behind notebooks 02 and 04, kept as small tables beside them.

    python tests/benchmarks/notebook_tables.py schedulers --data ../shared/data
    python tests/benchmarks/notebook_tables.py domains --data ../shared/data

Each trains the packaged model on all configurations of a grid, on the rows of public sets, and writes one
line for each evaluation of a trial into ``notebooks/tables/``. ``schedulers``: five schedulers at the same
rates and the same tokens. ``domains``: the same 24 configurations on mathematics, medicine, finance and code.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import sweeper
from sweeper.search import TrialState

TABLES = Path(__file__).parents[2] / "notebooks" / "tables"
DOMAINS = {
    "mathematics": "math/gsm8k_train.jsonl",
    "medicine": "medical/pubmedqa_labeled_alpaca.jsonl",
    "finance": "finance/banking77_train_alpaca.jsonl",
    "code": "code/mbpp_prompt_completion.jsonl",
}
ROWS = 240
GRIDS: dict[str, dict[str, Any]] = {
    "schedulers": {
        "lr": [3e-4, 1e-3, 3e-3, 1e-2],
        "scheduler": ["constant", "linear", "cosine", "exponential", "wsd"],
        "epochs": 2,
        "gradient_accumulation_steps": 1,
    },
    "domains": {
        "lr": [2e-4, 6e-4, 2e-3, 6e-3],
        "scheduler": "cosine",
        "epochs": [1, 2, 4],
        "gradient_accumulation_steps": [1, 4],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=GRIDS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    arguments = parser.parse_args()
    os.environ["SWEEPER_HISTORY"] = "off"
    domains = DOMAINS if arguments.table == "domains" else {"mathematics": DOMAINS["mathematics"]}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, file in domains.items():
            data = first_rows(arguments.data / file, Path(folder) / f"{name}.jsonl")
            rows += swept(name, data, GRIDS[arguments.table], Path(folder))
    TABLES.mkdir(exist_ok=True)
    with (TABLES / f"{arguments.table}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def first_rows(source: Path, target: Path) -> Path:
    """Lines end with a line feed alone: one set has other separators within its texts."""
    with source.open(encoding="utf-8", newline="\n") as file:
        target.write_text("".join(itertools.islice(file, ROWS)), encoding="utf-8")
    return target


def swept(name: str, data: Path, grid: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    space = {
        "name": name,
        "model_path": "builtin:quickstart",
        "data_path": str(data),
        "eval_data": 0.2,
        "training": {**grid, "per_device_batch_size": 4, "max_seq_len": 512, "overlong": "truncate"},
        "deepspeed": {"zero_stage": 0, "precision": "fp32"},
        "objective": {"evaluations": 4},
        "search": {"sampler": "grid", "stopper": "none", "seed": 0, "trials": 100},
        "resources": {"max_concurrent": 2, "cpus_per_rank": 1, "gpus_per_rank": 0},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(space))
    result = sweeper.run(file, out=folder / name)
    return [
        {
            "domain": name,
            **{key: trial.attributes["config"]["training"][key] for key in grid},
            "evaluation": place,
            "tokens": evaluation.tokens,
            "loss": round(evaluation.metrics["eval/loss"], 5),
        }
        for trial in result.trials
        if trial.state is TrialState.COMPLETE
        for place, evaluation in enumerate(trial.evaluations)
    ]


if __name__ == "__main__":
    main()
