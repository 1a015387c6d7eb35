"""Our schedules in the words of transformers' ``get_scheduler``, which most trainers use, and back.

Outside of warm-up both give the same learning rates. In it transformers has s / W of the peak at step s of
W, ours (s + 1) / (W + 1). Source: ``transformers/optimization.py`` of 5.24.
"""

from __future__ import annotations

import math
from typing import Any, assert_never

from sweeper.recommend.exports.consumer import Found, Note, Part, Run
from sweeper.space.schedules import warmup_steps

__all__ = ["SCHEDULE_WORDS", "hf_schedule", "read_hf_schedule", "read_warmup", "rising_steps", "warmup_value"]

SCHEDULE_WORDS = "lr_scheduler_type, lr_scheduler_kwargs"
_NAMES = {
    "constant_with_warmup": "constant",
    "linear": "linear",
    "polynomial": "linear",
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine",
    "warmup_stable_decay": "wsd",
}
"""Theirs -> ours. Not ``constant``, which leaves warm-up out without a word."""


def rising_steps(run: Run) -> int:
    """Optimizer steps of warm-up of this run."""
    training = run.config.training
    return warmup_steps(run.steps, training.warmup_ratio, training.warmup_steps)


def warmup_value(run: Run) -> int | float:
    """For ``warmup_steps`` of transformers 5: a number of steps, or below 1 a share of them, rounded up there
    as here."""
    training, rising = run.config.training, rising_steps(run)
    is_share = training.warmup_steps is None and math.ceil(training.warmup_ratio * run.steps) == rising
    return training.warmup_ratio if is_share else rising


def hf_schedule(run: Run, name_key: str = "lr_scheduler_type") -> Part:
    """The scheduler with its arguments. ``exponential`` becomes the polynomial that agrees with it at both
    ends and in the middle."""
    training, notes = run.config.training, list[Note]()
    name, arguments, ratio = training.scheduler, dict[str, Any](), training.final_lr_ratio
    if name == "wsd":
        decay = min(run.steps * training.decay_ratio, run.steps - rising_steps(run))
        said = {"num_decay_steps": decay, "decay_type": "1-sqrt"}
        theirs, arguments = "warmup_stable_decay", said | ({"min_lr_ratio": ratio} if ratio else {})
        notes.append(
            Note(
                "training.decay_ratio",
                f"becomes a number of steps, {decay:g} of {run.steps}: with other rows, epochs or batch it "
                "has to be worked out again",
            )
        )
    elif name == "constant" or ratio == 1:
        theirs = "constant_with_warmup"
    elif name == "cosine":
        theirs = "cosine_with_min_lr" if ratio else "cosine"
        arguments = {"min_lr_rate": ratio} if ratio else {}
    elif name == "linear":
        theirs, arguments = (
            ("polynomial", {"lr_end": ratio * training.lr, "power": 1.0}) if ratio else (name, {})
        )
    elif name == "exponential":
        theirs, power = "polynomial", math.log2((1 + math.sqrt(ratio)) / math.sqrt(ratio))
        arguments = {"lr_end": ratio * training.lr, "power": power}
        notes.append(
            Note(
                "training.scheduler",
                f"exponential is not known there; the nearest is polynomial of power {power:.3g}, which "
                "agrees at both ends and in the middle",
            )
        )
    else:
        assert_never(name)
    return {name_key: theirs} | ({"lr_scheduler_kwargs": arguments} if arguments else {}), notes


def read_hf_schedule(found: Found, name_key: str = "lr_scheduler_type") -> None:
    """Back, as far as ours can say it; a name that ours has no curve for stays unread, with its arguments."""
    name = found.tree.get(name_key)
    arguments = found.tree.get("lr_scheduler_kwargs") or {}
    if name is None or not isinstance(arguments, dict):
        return
    if name == "constant":
        found.notes.append(Note("training.warmup_ratio", "their scheduler constant has no warm-up"))
        found.values |= {"training.scheduler": "constant", "training.warmup_steps": 0}
        found.tree.pop(name_key)
        for key in ("warmup_steps", "warmup_ratio"):
            found.tree.pop(key, None)
        return
    if (power := arguments.get("power", 1.0)) != 1.0 or name not in _NAMES:
        said = f"polynomial of power {power}" if name == "polynomial" else name
        found.notes.append(Note("training.scheduler", f"{said} is none of ours; nothing is said instead"))
        return
    found.tree.pop(name_key)
    found.tree.pop("lr_scheduler_kwargs", None)
    found.values["training.scheduler"] = _NAMES[name]
    if name != "constant_with_warmup":
        found.values["training.final_lr_ratio"] = _ratio(found, arguments)
    if name == "warmup_stable_decay":
        steps = arguments.get("num_decay_steps")
        said = f"their decay is {steps} steps; decay_ratio is a share of all steps"
        found.notes.append(Note("training.decay_ratio", said))
        if arguments.get("decay_type") != "1-sqrt":
            kind = arguments.get("decay_type", "cosine")
            found.notes.append(Note("training.scheduler", f"their decay is {kind}, ours 1 - sqrt"))


def _ratio(found: Found, arguments: dict[str, Any]) -> float:
    for key in ("min_lr_rate", "min_lr_ratio"):
        if key in arguments:
            return float(arguments[key])
    end, lr = arguments.get("lr_end", arguments.get("min_lr")), found.values.get("training.lr")
    if end and lr:
        return float(f"{float(end) / float(lr):.12g}")  # a product was written
    return 0.0


def read_warmup(found: Found) -> None:
    """``warmup_ratio``, and ``warmup_steps``, which below 1 is a share."""
    steps, ratio = found.tree.pop("warmup_steps", None), found.tree.pop("warmup_ratio", None)
    if isinstance(steps, float) and (steps < 1 or not steps.is_integer()):
        steps, ratio = None, steps
    if steps is not None:
        found.values["training.warmup_steps"] = int(steps) if isinstance(steps, float) else steps
    elif ratio is not None:
        found.values["training.warmup_ratio"] = ratio
