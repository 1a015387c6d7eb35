"""What a tuning found: the fastest system configuration of a shape, and everything that was measured.

It lies in the user's cache for the next sweep of the same shape: one JSON file a shape.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from sweeper.autotune.estimate.cost import Speed
from sweeper.autotune.estimate.memory_model import Calibration
from sweeper.data import model_fingerprint
from sweeper.space import SYSTEM, Config, SystemConfig, lasting_tree, read_record, write_whole

__all__ = [
    "ProbeRecord",
    "Tuning",
    "apart_from_resources",
    "cache_file",
    "cache_root",
    "hardware_text",
    "in_words",
    "read_tuning",
    "shape_text",
    "write_tuning",
]

_RESOURCES = {"cpus_per_rank", "gpus_per_rank", "memory_limit_gib"}


@dataclass(frozen=True, kw_only=True)
class ProbeRecord:
    """One candidate that was tried."""

    levers: SystemConfig
    """Micro-batch and accumulation are those of the whole global batch."""
    pass_tokens: float
    """Real tokens of one forward pass of one rank, on average."""
    tokens_per_s: float | None = None
    """Real training tokens of the whole global batch; None where it did not fit after all."""
    spread: float = 0.0
    """(highest - lowest) / median over the measured steps."""
    predicted_gib: float | None = None
    """Peak of a rank over its idle process; None where the model's sizes are not known."""
    measured_gib: float | None = None
    seconds: float = 0.0
    """What the probe took in all."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The answer for one shape."""

    shape: str
    """What it holds for, as JSON."""
    hardware: str
    global_batch_size: int
    """Rows of one optimizer step that it was measured for."""
    data: str
    """Fingerprint of the rows that it was measured with."""
    levers: SystemConfig
    pass_tokens: float
    speed: Speed
    probes: tuple[ProbeRecord, ...]
    calibration: Calibration
    idle_gib: float
    """Of a rank's process without a model."""
    room_gib: float
    """What a rank could take on top of that."""
    seconds: float
    """What the tuning took, the workers' start included."""
    made_s: float
    """When it was made, in seconds since the epoch."""


def in_words(levers: SystemConfig) -> str:
    said = [f"micro-batch {levers.per_device_batch_size}", f"ZeRO {levers.zero_stage}"]
    said += ["gradient checkpointing"] if levers.gradient_checkpointing else []
    said += [f"offload {levers.offload}"] if levers.offload != "none" else []
    return ", ".join(said)


def shape_text(config: Config, measured: frozenset[str]) -> str:
    """Everything but the hardware and the rows that a tuning hangs on: model, sequence length, adapters or
    none, precision, parallelism, and the system's fields that were fixed."""
    training, memory = config.training, config.deepspeed
    shape = {
        "model": model_fingerprint(config.model_path),
        "max_seq_len": training.max_seq_len,
        "lora": bool(training.lora),
        "precision": memory.precision,
        "ds": memory.config,
        "parallel": lasting_tree(config.parallel, "parallel"),
        "cpus_per_rank": config.resources.cpus_per_rank,
        "gpus_per_rank": config.resources.gpus_per_rank,
        "memory_limit_gib": config.resources.memory_limit_gib,
        "fixed": {path: attrgetter(path)(config) for path in SYSTEM - measured},
    }
    return json.dumps(shape, sort_keys=True)


def apart_from_resources(shape: str) -> dict[str, Any]:
    """What ``shape_text`` says of the training itself, without what a rank has of the machine."""
    return {name: value for name, value in json.loads(shape).items() if name not in _RESOURCES}


def hardware_text() -> str:
    """The devices of this machine, as a text to compare: GPUs, else processor, cores and memory."""
    gpus = sorted(_after(file, "Model:") for file in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if gpus:
        return ", ".join(gpus)
    processor = _after(Path("/proc/cpuinfo"), "model name") or "CPU"
    memory = _after(Path("/proc/meminfo"), "MemTotal:").split()
    gib = round(int(memory[0]) / 2**20) if memory else 0
    return f"{processor}, {os.cpu_count()} cores, {gib} GiB"


def cache_root() -> Path:
    """``$SWEEPER_CACHE``, else ``sweeper`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get("SWEEPER_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else home / "sweeper"


def cache_file(shape: str) -> Path:
    """Where the tuning of a shape is kept."""
    return cache_root() / "autotune" / f"{hashlib.sha256(shape.encode()).hexdigest()[:16]}.json"


def read_tuning(shape: str) -> Tuning | None:
    """None where there is none, or one of another version: it is measured again. A sweep's own ledger is read
    more patiently, as what it has decided stays."""
    try:
        tree = json.loads(cache_file(shape).read_bytes())
        found = read_record(Tuning, tree)
    except (OSError, ValueError):
        return None
    is_whole = json.loads(json.dumps(asdict(found))) == tree
    return found if is_whole and found.shape == shape else None


def write_tuning(tuning: Tuning) -> Path:
    """Returns the file."""
    file = cache_file(tuning.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(asdict(tuning), indent=2) + "\n")
    return file


def _after(file: Path, key: str) -> str:
    """The rest of the line that begins with the key."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix(key).strip(" \t:") for line in lines if line.startswith(key)), "")
