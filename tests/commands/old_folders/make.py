"""Makes folders of interrupted runs, as the version of sweeper leaves them that is imported.

    git worktree add --detach /tmp/old dd1f124
    PYTHONPATH=/tmp/old python tests/commands/old_folders/make.py /tmp/made

Each story runs twice: interrupted, kept, and resumed on a copy by the same version, which says in
``expected.json`` what a resumed sweep comes to; and undisturbed, which must come to the same. All paths
in the files are relative to the folder where the commands are given; MLflow alone stores absolute ones.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMIT = "dd1f124"
KEPT = Path(__file__).parent / COMMIT
LIMIT_GIB = 0.95
_WITHIN_S = 1200
_ROWS = 12
_WORDS = "one river two mountains three houses four gardens five winds six roads seven lakes eight".split()

THINKS = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think></think>{% endif %}"
    "{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Writes into an answer what no row says; before format_version 2 that carried loss."""
TRAINING = {"scheduler": "cosine", "per_device_batch_size": 4, "max_seq_len": 64, "epochs": 10}
BASE: dict[str, Any] = {
    "model_path": "model",
    "data_path": {"path": "rows.jsonl", "weight": 20},
    "eval_data": 0.25,
    "deepspeed": {"zero_stage": 0, "precision": "fp32"},
    "objective": {"evaluations": 4},
    "resources": {"max_concurrent": 1, "cpus_per_rank": 1},
}
SPACES: dict[str, dict[str, Any]] = {
    "interrupted": {
        "chat_template": "thinks.jinja",
        "training": TRAINING | {"lr": {"log_uniform": [1e-4, 1e-2]}, "scheduler": ["constant", "cosine"]},
        "search": {"trials": 3, "stopper": "none"},
    },
    "measured": {
        "training": TRAINING
        | {"lr": [1e-3, 3e-3], "per_device_batch_size": "auto", "global_batch_size": 16, "epochs": 40},
        "deepspeed": {"zero_stage": "auto", "gradient_checkpointing": "auto", "precision": "fp32"},
        "search": {"trials": 2, "sampler": "grid", "stopper": "none"},
        "resources": {"max_concurrent": "auto"},
    },
    "out-of-memory": {
        "data_path": {"path": "long.jsonl", "weight": 800},
        "training": TRAINING
        | {"lr": [1e-3, 3e-3], "per_device_batch_size": 512, "global_batch_size": 512, "max_seq_len": 256}
        | {"epochs": 0.6},
        "search": {"trials": 2, "sampler": "grid", "stopper": "none"},
        "resources": {"max_concurrent": 1, "cpus_per_rank": 1, "memory_limit_gib": LIMIT_GIB},
    },
    "train": {"training": TRAINING | {"lr": 1e-3, "lora": {"rank": 4}}},
}


def write_inputs(root: Path) -> None:
    """A random Llama of a few thousand parameters, some rows, and a space file for each story."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    rows = [
        {"prompt": f"{_WORDS[i]} and {_WORDS[-i - 1]}?", "completion": " ".join(_WORDS[i : i + 4])}
        for i in range(_ROWS)
    ]
    for name, times in (("rows", 1), ("long", 12)):
        longer = [{**row, "completion": " ".join([row["completion"]] * times)} for row in rows]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in longer))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=288, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(row.values()) for row in rows] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(root / "model")
    (root / "thinks.jinja").write_text(THINKS)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer.get_vocab()),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(root / "model")
    for name, changes in SPACES.items():
        (root / f"{name}.yaml").write_text(json.dumps({"name": name, **BASE, **changes}, indent=2))


class Driver:
    """A sweeper command in a process group of its own."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.arguments = arguments
        environment = {**os.environ, "SWEEPER_CACHE": str(root.parent / "cache"), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweeper", *arguments],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, status: int) -> str:
        said, _ = self.process.communicate(timeout=_WITHIN_S)
        print(f"$ sweeper {' '.join(self.arguments)}\n{said}", flush=True)
        assert self.process.returncode == status, (self.process.returncode, status)
        return said

    def interrupt(self) -> None:
        """As a scheduler does; what runs writes its state."""
        self.process.send_signal(signal.SIGTERM)
        self.end(130)

    def until(self, holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while not holds():
            assert self.process.poll() is None and time.monotonic() < deadline, self.end(0)
            time.sleep(0.01)


def states(folder: Path, count: int) -> bool:
    """Whether a trial has written so many evaluations' states, of which the newest and the best stay."""
    return len(list(folder.glob("step-*"))) >= count


def interrupt_in_the_second_trial(root: Path) -> None:
    driver = Driver(root, "run", "interrupted.yaml")
    driver.until(lambda: states(root / "sweeps/interrupted/trials/1/checkpoints", 1))
    driver.interrupt()


def interrupt_two_side_by_side(root: Path) -> None:
    driver = Driver(root, "run", "measured.yaml")
    driver.until(lambda: states(root / "sweeps/measured/trials/0/checkpoints", 1))
    driver.interrupt()


def interrupt_after_memory_ran_out_and_a_rank_was_killed(root: Path) -> None:
    driver = Driver(root, "run", "out-of-memory.yaml")
    sweep = root / "sweeps/out-of-memory"
    driver.until(lambda: states(sweep / "trials/1/checkpoints", 1))
    newest = max((sweep / "logs/processes").iterdir(), key=lambda mark: mark.stat().st_mtime)
    os.kill(int(newest.name.rpartition("-")[2]), signal.SIGKILL)
    driver.until(lambda: facts_of(sweep)["1"]["setbacks"])
    driver.interrupt()


def interrupt_training(root: Path) -> None:
    driver = Driver(root, "train", "train.yaml")
    driver.until(lambda: states(root / "models/train-train/checkpoints", 1))
    driver.interrupt()


def facts_of(sweep: Path) -> dict[str, Any]:
    """What two equal sweeps have in common to the last bit."""
    try:
        from sweeper.commands import open_sweep
        from sweeper.space import SweepFolder
    except ModuleNotFoundError:  # in the version that makes the folders
        from sweeper.drive import open_sweep
        from sweeper.spec import SweepFolder

    _, ledger = open_sweep(SweepFolder(sweep))
    return {
        str(trial.number): {
            "state": trial.state.value,
            "values": dict(trial.values),
            "losses": {str(one.tokens): one.metrics["eval/loss"] for one in trial.evaluations},
            "setbacks": [one["out_of_memory"] for one in trial.attributes.get("setbacks", [])],
            "batch": trial.attributes["config"]["training"]["per_device_batch_size"],
            "concurrent": trial.attributes["config"]["resources"]["max_concurrent"],
        }
        for trial in ledger.trials()
    }


def weights_of(folder: Path) -> dict[str, float]:
    """Name of a tensor -> the sum of its magnitudes in double precision."""
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return {name: tensor.double().abs().sum().item() for name, tensor in load_file(file).items()}


def hardware() -> dict[str, str]:
    """What has to be the same for losses to be the same to the last bit."""
    import torch
    import transformers

    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        flags = next((line for line in file if line.startswith("flags")), "")
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "amx": str("amx" in flags),
    }


def processor() -> str:
    """Vendor, family, model and stepping: MKL and oneDNN add up in another order on each kind."""
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        told = dict(line.partition(":")[::2] for line in file if ":" in line)
    named = {name.strip(): value.strip() for name, value in told.items()}
    return " ".join(named.get(name, "") for name in ("vendor_id", "cpu family", "model", "stepping"))


STORIES: dict[str, Callable[[Path], None]] = {
    "interrupted": interrupt_in_the_second_trial,
    "measured": interrupt_two_side_by_side,
    "out-of-memory": interrupt_after_memory_ran_out_and_a_rank_was_killed,
}


def pack(name: str, root: Path, *paths: str) -> None:
    """What is rebuilt, and what speaks of the machine, stays out."""

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(info.name).parts
        if "logs" in parts or parts[-1] in (".lock", ".stop", "log.txt") or parts[-1].endswith(".lock"):
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(KEPT / f"{name}.tar.xz", "w:xz", preset=9) as archive:
        for path in paths:
            archive.add(root / path, path, filter=kept)


def main(work: Path) -> None:
    root, other = work / "root", work / "undisturbed"
    for folder in (root, other):
        folder.mkdir(parents=True)
        write_inputs(folder)
    for story in STORIES.values():
        story(root)
    interrupt_training(root)
    KEPT.mkdir(exist_ok=True)
    before = {name: facts_of(root / "sweeps" / name) for name in STORIES}
    pack(
        "inputs",
        root,
        "model",
        "rows.jsonl",
        "long.jsonl",
        "thinks.jinja",
        *(f"{name}.yaml" for name in SPACES),
    )
    for name in STORIES:
        pack(name, root, f"sweeps/{name}")
    pack("train", root, "models/train-train")
    with sqlite3.connect(root / "sweeps/mlflow.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
    pack("mlflow", root, "sweeps/mlflow.db", "sweeps/mlartifacts")

    resumed, trained = {}, {}
    for name in STORIES:
        Driver(root, "resume", f"sweeps/{name}").end(0)
        resumed[name] = facts_of(root / "sweeps" / name)
    for name in ("interrupted", "out-of-memory"):
        Driver(other, "run", f"{name}.yaml").end(0)
        undisturbed = facts_of(other / "sweeps" / name)
        for number, trial in resumed[name].items():
            assert trial["losses"] == undisturbed[number]["losses"], (name, number)
    for folder in (root, other):
        Driver(folder, "train", "train.yaml").end(0)
        trained[folder.name] = weights_of(folder / "models/train")
    assert trained["root"] == trained["undisturbed"]
    expected = {
        "made_by": COMMIT,
        "root": str(root),
        "hardware": hardware(),
        "before": before,
        "resumed": resumed,
        "trained": trained["root"],
    }
    (KEPT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
