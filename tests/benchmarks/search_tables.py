"""Offline tuning tables as tasks: candidates, their learning curves, and the candidate that a rule of thumb
would take.

Three kinds of tables are read from a folder; none of them is part of this package:

* ``taskset_text/*.npz`` (releaunifreiburg/DPL, Apache-2.0): 1,000 configurations of 8 hyperparameters, each
  with 51 evaluations;
* ``nmtlc_lora_finetune.jsonl`` (Este1le/hpo_nmt, MIT): LoRA fine-tunes over lr, batch and rank, 7 to 74
  evaluations each;
* ``tinker_sft_sweep.csv`` (thinking-machines-lab/tinker-cookbook, Apache-2.0): lr and rank of large models,
  no curves.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from lr_rule import MODELS

from sweeper.history import Features, lr_ratio
from sweeper.space.config import rules

TABLES = ("taskset", "nmtlc", "tinker")
_ADAM = {  # log10 of Adam's defaults, and next to no regularization
    "learning_rate": -3.0,
    "beta1": -1.0,
    "beta2": -3.0,
    "epsilon": -8.0,
    "l1": -8.0,
    "l2": -8.0,
    "linear_decay": -7.0,
    "exponential_decay": -6.0,
}
_LORA_RANK = 16
_MODEL_TYPES = {"bloomz": "bloom", "xglm": "xglm"}


@dataclass(frozen=True)
class Task:
    """One sweep's worth of candidates whose curves are known."""

    name: str
    family: str
    dimensions: tuple[str, ...]
    points: np.ndarray
    """(candidates, dimensions), logarithms."""
    curves: tuple[np.ndarray, ...]
    """Losses in nats by evaluation; infinite where it diverged."""
    rule: int
    """The candidate that is nearest to the rule of thumb."""
    features: Features
    """What history compares it by."""

    @cached_property
    def bests(self) -> np.ndarray:
        return np.array([curve.min() for curve in self.curves])

    @cached_property
    def best(self) -> float:
        return float(self.bests.min())

    @cached_property
    def run_evaluations(self) -> float:
        """Evaluations of one full run, in the mean: the unit of cost."""
        return float(np.mean([len(curve) for curve in self.curves]))


def read(table: str, folder: Path) -> list[Task]:
    """The tasks of one kind of table."""
    return {"taskset": _taskset, "nmtlc": _nmtlc, "tinker": _tinker}[table](folder)


def box_of(tasks: Sequence[Task]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest corner of all their points, and the extent from there."""
    low = np.min([task.points.min(0) for task in tasks], 0)
    high = np.max([task.points.max(0) for task in tasks], 0)
    return low, np.where(high > low, high - low, 1.0)


def in_terms_of(task: Task, past: Task) -> np.ndarray:
    """The points of a past task, with its learning rates as the product's history takes them."""
    points = past.points.copy()
    if past.dimensions[0] == "lr":
        points[:, 0] += math.log10(lr_ratio(task.features, past.features))
    return points


def _taskset(folder: Path) -> list[Task]:
    tasks = []
    for file in sorted((folder / "taskset_text").glob("*.npz")):
        content = np.load(file)
        points = content["hp"].astype(float)
        points[:, 1:3] = 1 - points[:, 1:3]  # of the betas the distance from 1 is what matters
        names = tuple(map(str, content["hp_names"]))
        points = np.log10(points)
        curves = tuple(_finite(curve) for curve in content["valid_loss"])
        rule = _nearest(points, [_ADAM[name] for name in names])
        family = file.stem.split("_")[2]
        features = Features(model=file.stem, model_type=family)
        tasks.append(Task(file.stem, family, names, points, curves, rule, features))
    return tasks


def _nmtlc(folder: Path) -> list[Task]:
    rows = [json.loads(line) for line in (folder / "nmtlc_lora_finetune.jsonl").read_text().splitlines()]
    tasks = []
    for space in sorted({row["space"] for row in rows}):
        own = [row for row in rows if row["space"] == space]
        points = np.array(
            [[math.log10(r["lr"]), math.log2(r["batch_size"]), math.log2(r["lora_r"])] for r in own]
        )
        curves = tuple(np.log(_finite(row["val_ppl"])) for row in own)
        family, width = own[0]["base_model"].split("-")[0], own[0]["hidden"]
        lr = rules.lr(width, lora=True, model_type=_MODEL_TYPES.get(family))
        batch = rules.global_batch_size(own[0]["train_rows"])
        rule = _nearest(points, [math.log10(lr), math.log2(batch), math.log2(_LORA_RANK)])
        features = _features(space, family, own[0]["hidden"], _MODEL_TYPES.get(family))
        tasks.append(Task(space, family, ("lr", "batch", "rank"), points, curves, rule, features))
    return tasks


def _tinker(folder: Path) -> list[Task]:
    losses: dict[str, dict[tuple[float, int], float]] = {}
    with (folder / "tinker_sft_sweep.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["status"] == "ok":
                key = float(row["lr"]), int(row["lora_rank"])
                losses.setdefault(row["model"], {})[key] = float(row["test_nll"])
    tasks = []
    for model, by_point in losses.items():
        if len(by_point) < 4:
            continue
        points = np.array([[math.log10(lr), math.log2(rank)] for lr, rank in by_point])
        _, model_type, width = next(
            (MODELS[one] for one in MODELS if model.startswith(one)), (None, None, None)
        )
        lr = rules.lr(width, lora=True, model_type=model_type)
        rule = _nearest(points, [math.log10(lr), math.log2(_LORA_RANK)])
        curves = tuple(np.array([loss]) for loss in by_point.values())
        family = model.split("/")[0]
        features = _features(model, family, width, model_type)
        tasks.append(Task(model, family, ("lr", "rank"), points, curves, rule, features))
    return tasks


def _features(name: str, family: str, hidden_size: int | None, model_type: str | None) -> Features:
    size = _size(name)
    return Features(
        model=name,
        model_type=model_type or family,
        parameters=None if size is None else round(size * 1e9),
        hidden_size=hidden_size,
        lora=True,
    )


def _nearest(points: np.ndarray, wanted: Sequence[float]) -> int:
    extent = np.ptp(points, 0) + 1e-12
    return int((((points - wanted) / extent) ** 2).sum(1).argmin())


def _finite(losses: Sequence[float]) -> np.ndarray:
    array = np.asarray(losses, float)
    return np.where(np.isfinite(array), array, np.inf)


def _size(name: str) -> float | None:
    """Parameters in billions, from a name such as 30B, 560m, 1b7 or 1.7B."""
    found = re.search(r"(\d+(?:\.\d+)?)([bBmM])(\d?)(?![a-zA-Z0-9])", name.split("/")[-1])
    if found is None:
        return None
    size = float(found[1] + ("." + found[3] if found[3] else ""))
    return size / 1000 if found[2] in "mM" else size
