"""How long a command takes to its first training step: this tree against another one, in pairs.

    python tests/benchmarks/first_step.py --against ../other-checkout --pairs 5

Each run is `sweeper run search_spaces/quickstart.yaml` with a new folder and two trials side by side, ended
once a trial has noted its steps. The figure is the moment of the earliest first step, less that of the
command's start. The two trees take turns, since other load on a machine comes and goes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[2]
WITHIN_S = 600


def first_step_s(tree: Path) -> float:
    """Seconds from the command to the end of the first optimizer step."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sweep"
        command = [sys.executable, "-m", "sweeper", "run", "search_spaces/quickstart.yaml", "--out", str(out)]
        command += ["--set", "search.trials=2", "--set", "resources.max_concurrent=2"]
        began_s = time.time()
        process = subprocess.Popen(
            command,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            stdout=subprocess.DEVNULL,
        )
        try:
            while not (files := list(out.glob("trials/*/steps.jsonl"))) and process.poll() is None:
                if time.time() - began_s > WITHIN_S:
                    break
                time.sleep(0.1)
            time.sleep(1)
            first = min(json.loads(file.read_text().splitlines()[0])["time_s"] for file in files)
            return float(first) - began_s
        finally:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            process.wait(timeout=WITHIN_S)


def main() -> None:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, required=True, help="the root of another checkout")
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    ratios = []
    for pair in range(chosen.pairs):
        trees = [HERE, chosen.against.resolve()]
        order = trees if pair % 2 else trees[::-1]
        took = {tree: first_step_s(tree) for tree in order}
        mine, other = (took[tree] for tree in trees)
        ratios.append(mine / other)
        print(f"pair {pair}: {mine:5.1f} s here, {other:5.1f} s there, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
