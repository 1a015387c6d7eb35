"""What a GPU has to show, by one command, in some minutes; on a CPU the same in small, as a rehearsal.

    python tests/benchmarks/gpu.py --out DIR
    python tests/benchmarks/gpu.py --out DIR --only speed,memory --seconds 600

Llamas of 0.1 and 1 B parameters with random weights train on rows as long as those of GSM8K. Parts that share
processes run one after another in them:

    start        a trial's cold and warm start, seconds
    speed        real tokens/s and MFU, packed and not, 0.1 and 1 B, bf16
    memory       peaks, predicted and measured, ZeRO 0 to 3, adapters, checkpointing, offload
    growth       20 trials in one process: what it holds
    trl          the speed of TRL's SFTTrainer with the same rows, masks and DeepSpeed configuration
    autotune     autotune's answer beside an exhaustive grid
    shared       one, two and four trials on one GPU at the same time
    oom          memory that really runs out, and the same global batch afterwards
    quickstart   the wall time of the packaged sweep

A part that fails has its traceback in gpu.json and stops no other; what there is no time left for is named.
The order is that of worth. Exits with 1 where a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GROUPS = {
    "ours": ("start", "speed", "memory", "growth"),
    "trl": ("trl",),
    "shared": ("shared",),
    "autotune": ("autotune",),
    "oom": ("oom",),
    "quickstart": ("quickstart",),
}
"""Processes, and the parts that run in them."""
PARTS = [part for parts in GROUPS.values() for part in parts]
ENVIRONMENT = {"SWEEPER_HISTORY": "off", "OMP_NUM_THREADS": "4" if Path("/dev/nvidia0").exists() else "1"}
LEAST_S = 20.0
"""No process is begun with less time left."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, between commas")
    parser.add_argument("--seconds", type=float, default=350.0, help="of all parts together")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    ends_s, results = time.monotonic() + options.seconds, {}
    for group, parts in GROUPS.items():
        chosen = [part for part in parts if part in wanted]
        if chosen:
            done = run(group, chosen, options.out, ends_s - time.monotonic())
            results |= done
            (options.out / "gpu.json").write_text(json.dumps({"machine": machine(), **results}, indent=1))
            print("\n".join(table(done)), flush=True)
    (options.out / "gpu.txt").write_text("\n".join([machine(), *table(results)]) + "\n")
    return int(any("error" in one for one in results.values()))


def run(group: str, parts: list[str], out: Path, left_s: float) -> dict[str, dict[str, Any]]:
    """What came out of each part, by its name."""
    if left_s < LEAST_S:
        return {part: {"skipped": "no time left"} for part in parts}
    results_file, log_file = out / f"{group}.json", out / f"{group}.log"
    results_file.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "gpu_parts" / "part.py"), ",".join(parts), str(out.absolute())]
    began = time.monotonic()
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*command, str(results_file.absolute())],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | ENVIRONMENT | {"SWEEPER_CACHE": str(out.absolute() / "cache")},
        )
        try:
            ended = f"ended with status {process.wait(timeout=left_s)}"
        except subprocess.TimeoutExpired:
            ended = f"was not done after {left_s:.0f} s"
        finally:
            end_session(process)
    found = json.loads(results_file.read_text()) if results_file.exists() else {}
    last = log_file.read_text(errors="replace")[-3000:]
    cut_short = {"error": f"the process {ended}", "log": last}
    results = {part: found.get(part, {}) for part in parts}
    for one in results.values():
        one |= {} if "seconds" in one else cut_short
    print(f"[{group}: {time.monotonic() - began:.0f} s]", flush=True)
    return results


def end_session(process: subprocess.Popen[bytes]) -> None:
    """And whatever it has started: Ray, ranks."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for part, result in results.items():
        lines += ["", part, *(f"  {key:44} {shown(value)}" for key, value in result.items())]
    return lines


def shown(value: Any) -> str:
    """One line; a traceback is in the JSON as a whole."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).strip().splitlines()[-1][:200] if str(value).strip() else ""


def machine() -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"no GPU, {os.cpu_count()} CPUs (a rehearsal)"


if __name__ == "__main__":
    sys.exit(main())
