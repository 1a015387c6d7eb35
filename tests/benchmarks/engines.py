"""Sweeps whose trials are OpenRLHF's and TRL's own commands on a CPU: six trials over lr, scheduler, epochs
and accumulation, one of them killed by hand and one out of memory; then the winner once more, by ``sweeper
train``.

    python tests/benchmarks/engines.py WORK --python openrlhf=/path/bin/python --python trl=/path/bin/python \
        --shim /path/to/stand-ins-for-cuda

Says for each trainer how the trials ended, what became of the two, and both values of the winner.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from sweeper.commands import load_sweep
from sweeper.engines.guard import tagged
from sweeper.quickstart import DATA_FILE, MODEL_DIR
from sweeper.search import TrialRecord
from sweeper.space import SweepFolder

TRIALS, KILLED = 6, 2
ROWS, HELD_OUT, MICRO_BATCH, MOST_TOKENS = 64, 16, 32, 250
SAME = 1e-3
"""Of a value, relative: two runs of the same command on a CPU."""
ALONE = {
    "DS_ACCELERATOR": "cpu",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--python", action="append", default=[], metavar="TRAINER=PYTHON")
    parser.add_argument("--shim", type=Path)
    parser.add_argument("--trials", type=int, default=TRIALS)
    asked = parser.parse_args()
    work: Path = asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    write_rows(work)
    failures = 0
    for one in asked.python:
        trainer, _, python = one.partition("=")
        space = SPACES[trainer](work, python, asked.shim)
        failures += swept(trainer, work, space | {"search": {"trials": asked.trials, "seed": 0}})
    return failures


def write_rows(work: Path) -> None:
    """So long that a micro-batch of 32 rows needs memory worth the name, and few."""
    lines = [json.loads(line) for line in DATA_FILE.read_text().split("\n") if line]
    rows = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": " ".join([row["completion"]] * 40)}],
        }
        for row in lines[:: len(lines) // (ROWS + HELD_OUT)][: ROWS + HELD_OUT]
    ]
    (work / "rows").mkdir(exist_ok=True)
    for name, part in (("train", rows[HELD_OUT:]), ("test", rows[:HELD_OUT])):
        (work / "rows" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


def openrlhf(work: Path, python: str, shim: Path | None) -> dict[str, Any]:
    base = {
        "model.model_name_or_path": str(MODEL_DIR),
        "data.dataset": str(work / "rows" / "train.jsonl"),
        "eval.dataset": str(work / "rows" / "test.jsonl"),
        "data.input_key": "prompt",
        "data.output_key": "completion",
        "data.apply_chat_template": True,
        "data.max_len": MOST_TOKENS,
        "train.micro_batch_size": MICRO_BATCH,
        "train.batch_size": MICRO_BATCH,
        "adam.lr": 1e-4,
        "lr_scheduler": "cosine",
        "train.max_epochs": 1,
        "ds.zero_stage": 2,
        "ds.param_dtype": "bf16",
        "ds.attn_implementation": "eager",
        "logger.logging_steps": 1,
        "eval.steps": 1,
        "ckpt.save_steps": 1,
    }
    (work / "openrlhf.yaml").write_text(yaml.safe_dump(base))
    path = f"PYTHONPATH={shim}" if shim else ""
    return {
        "engine": {
            "openrlhf": {},
            "command": f"{path} {python} -m openrlhf.cli.train_sft {{flags}}",
            "config": str(work / "openrlhf.yaml"),
            "silent_after": "10m",
        },
        "resources": {"max_concurrent": 1, "memory_limit_gib": LIMITS["openrlhf"]},
    }


def trl(work: Path, python: str, shim: Path | None) -> dict[str, Any]:
    base = {
        "model_name_or_path": str(MODEL_DIR),
        "dataset_name": str(work / "rows"),
        "dtype": "float32",
        "attn_implementation": "eager",
        "max_length": MOST_TOKENS,
        "use_cpu": True,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine",
        "num_train_epochs": 1,
        "per_device_train_batch_size": MICRO_BATCH,
        "per_device_eval_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 0.25,
        "save_strategy": "steps",
        "save_steps": 0.25,
        "save_total_limit": 1,
        "report_to": "none",
    }
    (work / "trl.yaml").write_text(yaml.safe_dump(base))
    return {
        "engine": {
            "trl": {},
            "command": f"{python} -m trl.scripts.sft --config {{config}}",
            "config": str(work / "trl.yaml"),
            "silent_after": "10m",
        },
        "resources": {"max_concurrent": 1, "memory_limit_gib": LIMITS["trl"]},
    }


SPACES = {"openrlhf": openrlhf, "trl": trl}
LIMITS = {"openrlhf": 3.1, "trl": 2.25}
"""GiB of a process's own data, which a micro-batch of 32 such rows does not fit into."""
OPEN = {
    "lr": {"log_uniform": [1e-5, 1e-2]},
    "scheduler": ["constant", "linear", "cosine"],
    "epochs": [1, 2],
    "gradient_accumulation_steps": [1, 2],
}


def swept(trainer: str, work: Path, space: dict[str, Any]) -> int:
    file, folder = work / f"space-{trainer}.yaml", SweepFolder(work / f"sweep-{trainer}")
    file.write_text(json.dumps({"name": trainer, "training": OPEN, **space}))  # JSON is YAML
    killer = threading.Thread(target=kill_one, args=(folder,), daemon=True)
    killer.start()
    began = time.perf_counter()
    told(["run", str(file), "--out", str(folder.root)])
    took_s = time.perf_counter() - began
    result = load_sweep(folder.root)
    for one in result.trials:
        print(f"  trial {one.number}: {one.state.value} {one.value} {one.values} {setbacks(one)}", flush=True)
    assert result.best is not None
    model = work / f"model-{trainer}"
    told(["train", str(folder.best_config), "--output-dir", str(model)])
    again = last_value(work / f"model-{trainer}-train")
    value = float(result.best.value or 0)
    reasons = [setback["reason"] for one in result.trials for setback in one.attributes.get("setbacks", [])]
    checks = {
        "every trial is complete": all(one.state.value == "COMPLETE" for one in result.trials),
        "one was killed and went on": any("killed" in one for one in reasons),
        "one was out of memory and trained at the same global batch": any(
            "out of memory" in one for one in reasons
        ),
        f"the winner again: {again} for {value}": abs(again / value - 1) <= SAME,
    }
    best = f"best trial {result.best.number}: {value:.4f}"
    print(f"{trainer}: {len(result.trials)} trials in {took_s:.0f} s, {best}")
    for name, is_so in checks.items():
        print(f"  {'yes' if is_so else 'NO'}: {name}", flush=True)
    return sum(not is_so for is_so in checks.values())


def setbacks(record: TrialRecord) -> str:
    return "; ".join(one["reason"][:160] for one in record.attributes.get("setbacks", []))


def kill_one(folder: SweepFolder) -> None:
    """SIGKILL for the processes of a trial's command, once it has evaluated."""
    out = folder.trial_checkpoints(KILLED) / "out"
    while not (folder.trial_checkpoints(KILLED) / "elapsed.json").exists():
        time.sleep(0.05)
    for pid in tagged(str(out.absolute())):
        os.kill(pid, signal.SIGKILL)


def told(words: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", *words],
        env=os.environ | ALONE | {"SWEEPER_HISTORY": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout[-3000:], flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def last_value(scratch: Path) -> float:
    """Of the training that has just ended, by what it said."""
    lines = [one for one in (scratch / "logs" / "driver.log").read_text().splitlines() if "eval/loss" in one]
    return float(lines[-1].rpartition("eval/loss ")[2].split()[0])


if __name__ == "__main__":
    sys.exit(main())
