"""Trainers of ten lines, which need no torch and are over in a tenth of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweeper.data import gather_facts
from sweeper.space import Space, load_space

__all__ = ["HEAD", "LEARNS", "loaded", "write_engine_space"]

HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

config = json.loads(Path(sys.argv[1]).read_text())
out = Path(config["output_dir"])


def tell(**record):
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(record) + "\\n")


def loss(step):
    return (abs(config["learning_rate"] * 1e3 - 1) + 1 / config["width"]) / step / config["num_train_epochs"]
"""
"""What all of them begin with: ``{config}`` as JSON, and a way to say something."""
LEARNS = (
    HEAD
    + """
for step in (1, 2, 3):
    epoch = step * config["num_train_epochs"] / 3
    tell(step=step, epoch=epoch, loss=loss(step) + 1, lr=0.1, eval_loss=loss(step))
(out / "model.txt").write_text(str(loss(3)))
"""
)
BASE = {
    "learning_rate": 1e-4,
    "num_train_epochs": 1,
    "width": 8,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "seed": 0,
    "output_dir": "{out}",
}
NAMES = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "per_device_batch_size": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "seed": "seed",
}


def write_engine_space(folder: Path, script: str = LEARNS, **changes: Any) -> Path:
    """A space file over a fake trainer; keys can be replaced, as ``engine__config``; None leaves one out."""
    (folder / "train.py").write_text(script)
    (folder / "base.json").write_text(json.dumps(BASE))
    tree: dict[str, Any] = {
        "name": "fake",
        "engine": {
            "command": f"python {folder / 'train.py'} {{config}}",
            "config": str(folder / "base.json"),
            "names": NAMES,
            "metrics": {"jsonl": "{out}/log.jsonl"},
            "values": {"width": [4, 8, 16]},
        },
        "training": {"lr": {"log_uniform": [1e-5, 1e-2]}, "epochs": [1, 2]},
        "search": {"trials": 4, "seed": 0},
        "resources": {"max_concurrent": 1, "cpus_per_rank": 1},
    }
    for key, value in changes.items():
        section, _, field = key.partition("__")
        place, name = (tree.setdefault(section, {}), field) if field else (tree, section)
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    file = folder / "space.yaml"
    file.write_text(json.dumps(tree))  # JSON is YAML
    return file


def loaded(file: Path) -> Space:
    return load_space(file, gather=gather_facts)
