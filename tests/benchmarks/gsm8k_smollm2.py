"""A real model on real data: SmolLM2-135M-Instruct on GSM8K rows, four trials, through the console script.

    python tests/benchmarks/gsm8k_smollm2.py --model PATH --data gsm8k_train.jsonl

PATH is a folder or a .gguf file. Prints the sweep's table, the wall time, and what the best trial
and the default configuration did to the held-out loss; exits with 1 when no trial lowered it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = Path(__file__).parents[2] / "search_spaces" / "gsm8k_smollm2.yaml"


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> int:
    rows = folder / "rows.jsonl"
    with arguments.data.open(encoding="utf-8") as source:
        rows.write_text("".join(itertools.islice(source, arguments.rows)), encoding="utf-8")
    overrides = [f"model_path={arguments.model.resolve()}", f"data_path={rows}", *arguments.overrides]
    command = [sys.executable, "-m", "sweeper", "run", str(SPACE), "--trials", str(arguments.trials)]
    command += ["--out", str(folder / "sweep"), *(f"--set={item}" for item in overrides)]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    wall_s = time.perf_counter() - began
    status = [sys.executable, "-m", "sweeper", "status", str(folder / "sweep"), "--json"]
    trials = json.loads(subprocess.run(status, check=True, capture_output=True, text=True).stdout)["trials"]
    study = (folder / "sweep" / "best-config.yaml").read_text()
    finished = [trial["value"] for trial in trials if trial["state"] == "COMPLETE"]
    speeds = [e["metrics"]["perf/tokens_per_s"] for trial in trials for e in trial["evaluations"]]
    print(f"wall time: {wall_s:.0f} s for {len(trials)} trials on {arguments.rows} rows")
    print(f"real tokens/s of one trial, median over evaluations: {sorted(speeds)[len(speeds) // 2]:.0f}")
    first = trials[0]["evaluations"][0]["metrics"]["eval/loss"]
    print(f"held-out loss: best {min(finished):.4f}; default at its first evaluation {first:.4f}")
    print(study[study.index("provenance:") :])
    return 0


if __name__ == "__main__":
    sys.exit(main())
