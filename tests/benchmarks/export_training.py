"""The exported configuration trained by the real consumer, and its held-out loss beside ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from against_trl import held_out_loss

from sweeper.data import prepare
from sweeper.quickstart import DATA_FILE, MODEL_DIR
from sweeper.recommend.exports import CONSUMERS, Run, exported
from sweeper.space import Config, dump_config

SAME_LOSS = 0.01
ROWS, HELD_OUT = 256, 64
STEPS = 64
LONGEST_S = 600


def compare_trained(work: Path, pythons: dict[str, Path], only: list[str], shim: Path | None) -> int:
    rows_of(work)
    failures, ours = 0, {}
    for precision in ("fp32", "bf16"):
        if (precision == "fp32" and "trl" in only) or (precision == "bf16" and shim and "openrlhf" in only):
            ours[precision] = by_us(work, config_of(work, precision))
    if "trl" in only:
        for way in ("trl sft", "the script"):
            failures += told(f"TRL, {way}", by_trl(work, pythons["trl"], way), ours["fp32"])
    if shim and "openrlhf" in only:
        failures += told("OpenRLHF", by_openrlhf(work, pythons["openrlhf"], shim), ours["bf16"])
    return failures


def told(name: str, found: tuple[float, float], ours: tuple[float, float]) -> int:
    apart = abs(found[0] / ours[0] - 1)
    print(
        f"{name}: held-out loss {found[0]:.4f}, ours {ours[0]:.4f}, "
        f"{apart:.2%} apart (target {SAME_LOSS:.0%}); "
        f"{found[1]:.0f} s, ours {ours[1]:.0f} s",
        flush=True,
    )
    return int(apart > SAME_LOSS)


def rows_of(work: Path) -> None:
    """Rows as messages, which every trainer renders by the model's chat template."""
    lines = [json.loads(line) for line in DATA_FILE.read_text().split("\n") if line]
    rows = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
        for row in lines
    ]
    rows = rows[:: len(rows) // (ROWS + HELD_OUT)][: ROWS + HELD_OUT]
    for name, part in (("train", rows[HELD_OUT:]), ("held-out", rows[:HELD_OUT])):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


def config_of(work: Path, precision: str) -> Config:
    return Config.model_validate(
        {
            "name": "exported",
            "model_path": str(MODEL_DIR),
            "data_path": str(work / "train.jsonl"),
            "eval_data": str(work / "held-out.jsonl"),
            "objective": {"evaluations": 1},
            "training": {
                "lr": 1e-3,
                "scheduler": "cosine",
                "final_lr_ratio": 0.1,
                "warmup_ratio": 0.1,
                "decay_ratio": 0.2,
                "epochs": 2,
                "per_device_batch_size": 4,
                "gradient_accumulation_steps": 2,
                "global_batch_size": 8,
                "max_seq_len": 128,
            },
            "deepspeed": {"zero_stage": 2, "precision": precision},
            "resources": {"max_concurrent": 1, "cpus_per_rank": 1, "gpus_per_rank": 0},
            "tracking": {"mlflow_uri": f"sqlite:///{work / 'mlflow.db'}"},
        }
    )


def loss_of(folder: Path, work: Path) -> float:
    """Of a trained model's folder, by one yardstick: nats per completion token of the same rows."""
    import torch
    from transformers import AutoModelForCausalLM

    data = prepare(config_of(work, "fp32"), work / "cache")
    return held_out_loss(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), data)


def by_us(work: Path, config: Config) -> tuple[float, float]:
    file, folder = work / "ours.yaml", work / f"ours-{config.deepspeed.precision}"
    file.write_text(dump_config(config))
    command = [sys.executable, "-m", "sweeper", "train", str(file), "--output-dir", str(folder), "-q"]
    seconds = timed(command, {"SWEEPER_HISTORY": "off"})
    return loss_of(folder, work), seconds


def by_trl(work: Path, python: Path, way: str) -> tuple[float, float]:
    run = Run(config=config_of(work, "fp32"), steps=STEPS, fields="prompt_completion")
    found = exported(run, CONSUMERS["trl"])
    file, script = work / "sft.yaml", work / "sft.py"
    folder = work / way.replace(" ", "-")
    file.write_text(found.text)
    script.write_text(found.script or "")
    head = [python, "-m", "trl.scripts.sft", "--config"] if way == "trl sft" else [python, script]
    more = ["--output_dir", folder, "--report_to", "none", "--save_strategy", "no"]
    seconds = timed([*map(str, [*head, file, *more])], alone(work))
    return loss_of(folder, work), seconds


def by_openrlhf(work: Path, python: Path, shim: Path) -> tuple[float, float]:
    run = Run(config=config_of(work, "bf16"), steps=STEPS, fields="prompt_completion")
    text, folder = exported(run, CONSUMERS["openrlhf"]).text, work / "openrlhf"
    command = text.replace("deepspeed --module", f"{python} -m")
    more = f"--ckpt.output_dir {folder} --ds.attn_implementation eager --ckpt.path {work}/states"
    script = work / "openrlhf.sh"
    script.write_text(command.rstrip("\n") + " " + more + "\n")
    seconds = timed(["bash", str(script)], alone(work) | {"PYTHONPATH": str(shim)})
    return loss_of(folder, work), seconds


ALONE = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29613",
    "DS_ACCELERATOR": "cpu",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": "",
}


def alone(work: Path) -> dict[str, str]:
    """One rank without a launcher. What DeepSpeed compiles on a CPU is compiled here: where another process
    was killed while it did, its lock is waited for without end."""
    return ALONE | {"TORCH_EXTENSIONS_DIR": str(work / "extensions")}


def timed(command: list[str], more: dict[str, Any]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, timeout=LONGEST_S)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - began
