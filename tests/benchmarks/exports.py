"""Every export held against the real trainer that it is for.

    python tests/benchmarks/exports.py --venvs ~/.cache/sweeper-venvs [--only trl axolotl ...] [--train]

Makes one virtual environment for each consumer in the folder of ``--venvs`` (kept for the next time), in
which the consumer and what its pins want otherwise is installed without dependencies, over the packages of
the Python that runs this. In it the consumer's own parser or schema reads each exported file, and its own
schedulers draw the learning rates of 200 random configurations, which are compared with ours outside of
warm-up. (How Axolotl and OpenRLHF count warm-up is copied from their code, which needs a whole trainer.)
``--train`` trains the packaged model by our own trial, by TRL (the command and the script) and, where
``--openrlhf-shim`` names stand-ins for CUDA, by OpenRLHF, and compares their held-out losses by one
yardstick. Exits with 1 where anything was refused or is further apart than it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import site
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export_checks import CHECKS

from sweeper.quickstart import DATA_FILE, MODEL_DIR
from sweeper.recommend.exports import CONSUMERS, SCHEDULE, Run, exported, keys_of
from sweeper.recommend.exports.schedules import rising_steps
from sweeper.space import Config
from sweeper.training.parallel.optimizer import schedule_of

PACKAGES = {
    "deepspeed": [],
    "trl": ["trl==1.16.0"],
    "openrlhf": [
        *("openrlhf==0.11.2", "torchdata", "pylatexenc", "tensorboard", "tensorboard-data-server"),
        *("grpcio", "absl-py", "markdown"),
    ],
    "llamafactory": [
        *("llamafactory==0.9.5", "transformers==5.6.0", "trl==0.24.0", "peft==0.18.1", "accelerate==1.11.0"),
        *("tokenizers==0.22.2", "huggingface_hub==1.17.0", "datasets==4.0.0", "omegaconf"),
        *("antlr4-python3-runtime==4.9.3", "fire", "termcolor", "tyro==0.8.14", "docstring_parser", "shtab"),
    ],
    "axolotl": [
        *("axolotl==0.19.0", "transformers==5.16.1", "trl==1.9.0", "peft==0.20.0", "accelerate==1.13.0"),
        *("tokenizers==0.23.1", "huggingface_hub==1.17.0", "addict", "art", "fire", "colorama"),
        *("python-dotenv", "termcolor"),
    ],
    "ms-swift": [
        *("ms-swift==4.6.0", "transformers==5.19.0", "trl==0.29.0", "peft==0.20.0", "tokenizers==0.23.1"),
        *("huggingface_hub>=1.20,<2", "modelscope", "modelscope_hub", "addict", "json-repair", "dacite"),
        *("simplejson", "sortedcontainers", "binpacking", "attrdict"),
    ],
}
SUFFIX = {"json": ".json", "yaml": ".yaml", "command": ".sh"}
SAME_LR, SAME_LOSS = 1e-9, 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--venvs", type=Path, required=True, help="folder of the virtual environments")
    parser.add_argument("--only", nargs="+", choices=CONSUMERS, default=list(CONSUMERS))
    parser.add_argument("--configurations", type=int, default=200, help="random ones, for the schedules")
    parser.add_argument("--train", action="store_true", help="train with TRL and OpenRLHF, too")
    parser.add_argument("--openrlhf-shim", type=Path, help="stand-ins with which OpenRLHF runs on a CPU")
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as work:
        for name in arguments.only:
            python = environment(name, arguments.venvs)
            failures += check(name, python, Path(work), arguments.configurations)
        if arguments.train:
            from export_training import compare_trained

            pythons = {name: environment(name, arguments.venvs) for name in ("trl", "openrlhf")}
            failures += compare_trained(Path(work), pythons, arguments.only, arguments.openrlhf_shim)
    return int(failures > 0)


def environment(name: str, folder: Path) -> Path:
    """The Python of a consumer's environment, made where it is not there yet."""
    home = folder.expanduser() / name
    python, mark = home / "bin" / "python", home / "complete"
    wanted = "\n".join(PACKAGES[name])
    if mark.is_file() and mark.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    packages = next((home / "lib").glob("python*/site-packages"))
    (packages / "base.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    if wanted:
        install = [python, "-m", "pip", "install", "-q", "--no-deps", *PACKAGES[name]]
        subprocess.run(install, check=True)
    mark.write_text(wanted)
    return python


def check(name: str, python: Path, work: Path, configurations: int) -> int:
    """The consumer's own parser over one file of each shape, and its schedules; how much was wrong."""
    consumer, began = CONSUMERS[name], time.perf_counter()
    files, runs = [], list(shapes())
    for number, run in enumerate(runs):
        file = work / f"{name}-{number}{SUFFIX[consumer.form]}"
        file.write_text(exported(run, consumer).text)
        files.append(str(file))
    drawn = [random_run(random.Random(seed)) for seed in range(configurations)]
    asked = [asked_of(run, name) for run in drawn]
    told = in_environment(python, CHECKS[name], {"files": files, "schedules": asked}, work)
    if "error" in told:
        print(f"{name}: FAILED: {told['error'][-1500:]}")
        return 1
    apart, named = 0, 0
    for run, given in zip(drawn, told["lrs"], strict=True):
        if any(note.path in SCHEDULE for note in keys_of(run, consumer)[1]):
            named += 1
        elif not is_same(run, given):
            apart += 1
            print(f"  {name}: other learning rates, unnamed: {run.config.training} of {run.steps} steps")
    read = [line for line in told["read"] if line]
    print(
        f"{name} {told['version']}: {len(files)} files through {told['what']}: "
        f"{read or 'accepted'}; {len(drawn) - named - apart} of {len(drawn)} schedules equal "
        f"to {SAME_LR:g}, {named} named as others, {apart} apart   "
        f"({time.perf_counter() - began:.0f} s)"
    )
    return len(read) + apart


def in_environment(python: Path, script: str, given: dict[str, Any], work: Path) -> dict[str, Any]:
    program, question, answer = work / "check.py", work / "question.json", work / "answer.json"
    program.write_text(script)
    question.write_text(json.dumps(given))
    answer.unlink(missing_ok=True)
    done = subprocess.run(
        [python, program, question, answer], env=os.environ | ALONE, capture_output=True, text=True
    )
    if not answer.is_file():
        return {"error": done.stdout[-500:] + done.stderr[-1500:]}
    return json.loads(answer.read_text())


ALONE = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29611",
    "DS_ACCELERATOR": "cpu",
    "ACCELERATE_USE_CPU": "true",
    "HF_HUB_OFFLINE": "1",
    "DISABLE_VERSION_CHECK": "1",
    "PYTHONPATH": "",
}


def shapes() -> Iterator[Run]:
    """Each schedule, adapters and none, each stage and offload, each format of rows."""
    schedules = ["constant", "linear", "cosine", "exponential", "wsd"]
    formats = ["alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "text", None]
    for number, fields in enumerate(formats):
        training = {
            "scheduler": schedules[number % 5],
            "final_lr_ratio": 0.05 if number % 2 or schedules[number % 5] == "exponential" else 0.0,
            "packing": number % 3 == 2,
            "lora": {"rank": 8, "targets": "q_proj,v_proj" if number % 2 else "all-linear"}
            if number % 3
            else False,
        }
        stage = number % 4
        memory = {"zero_stage": stage, "offload": ["none", "optimizer", "none", "all"][stage]}
        yield Run(config=config_of(training, memory), steps=40, fields=fields)


def random_run(draw: random.Random) -> Run:
    scheduler = draw.choice(["constant", "linear", "cosine", "exponential", "wsd"])
    ratio = draw.choice([0.0, 0.05, 0.1, round(draw.random(), 3), 1.0])
    training: dict[str, Any] = {
        "lr": 10 ** draw.uniform(-6, -2),
        "scheduler": scheduler,
        "final_lr_ratio": max(ratio, 0.01) if scheduler == "exponential" else ratio,
        "warmup_ratio": draw.choice([0.0, 0.03, round(draw.random() / 2, 3)]),
        "decay_ratio": round(draw.uniform(0.05, 0.5), 3),
        "warmup_steps": draw.choice([None, None, draw.randrange(0, 20)]),
    }
    return Run(config=config_of(training, {}), steps=draw.randrange(1, 300), fields="prompt_completion")


def config_of(training: dict[str, Any], memory: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "name": "exported",
            "model_path": str(MODEL_DIR),
            "data_path": str(DATA_FILE),
            "eval_data": 0.1,
            "objective": {"evaluations": 2},
            "training": {
                "lr": 1e-3,
                "final_lr_ratio": 0.0,
                "warmup_ratio": 0.03,
                "decay_ratio": 0.2,
                "epochs": 2,
                "per_device_batch_size": 4,
                "gradient_accumulation_steps": 2,
                "global_batch_size": 8,
                "max_seq_len": 128,
                **training,
            },
            "deepspeed": {"zero_stage": 2, "precision": "bf16", **memory},
            "resources": {"max_concurrent": 1, "cpus_per_rank": 2, "gpus_per_rank": 0},
        }
    )


def asked_of(run: Run, name: str) -> dict[str, Any]:
    """The keys of an export that its scheduler comes from."""
    keys, _ = keys_of(run, CONSUMERS[name])
    if name == "deepspeed":
        return {"lr": run.config.training.lr, "steps": run.steps, "scheduler": keys.get("scheduler")}
    said = {key: value for key, value in keys.items() if "sched" in key or "warmup" in key or "ratio" in key}
    said = {key: json.loads(one) if _is_json(one) else one for key, one in said.items()}
    return {"lr": run.config.training.lr, "steps": run.steps, "keys": said}


def _is_json(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{")


def is_same(run: Run, given: list[float]) -> bool:
    """Whether a consumer's learning rates are ours, outside of warm-up."""
    training = run.config.training
    multiplier = schedule_of(training, run.steps)
    ours = [training.lr * multiplier(step) for step in range(run.steps)]
    pairs = list(zip(ours, given, strict=True))[rising_steps(run) :]
    return all(abs(one - other) <= SAME_LR * training.lr for one, other in pairs)


if __name__ == "__main__":
    sys.exit(main())
