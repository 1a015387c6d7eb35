"""What a tuning found: the fastest system configuration of a shape, and everything that was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sweeper.autotune.estimate.cost import Speed
from sweeper.autotune.estimate.memory_model import Calibration
from sweeper.space import SystemConfig, read_record

__all__ = ["ProbeRecord", "Tuning", "in_words"]


@dataclass(frozen=True, kw_only=True)
class ProbeRecord:
    """One candidate that was tried."""

    levers: SystemConfig
    """Micro-batch and accumulation are those of the whole global batch."""
    tokens_per_s: float | None
    """Real training tokens of the whole global batch; None where it did not fit after all."""
    spread: float
    """(highest - lowest) / median over the measured steps."""
    pass_tokens: float
    """Real tokens of one forward pass of one rank, on average."""
    predicted_gib: float | None
    """Peak of a rank over its idle process; None where the model's sizes are not known."""
    measured_gib: float | None
    seconds: float
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Tuning:
        """Raises ValueError for what no version wrote."""
        return read_record(cls, tree)


def in_words(levers: SystemConfig) -> str:
    said = [f"micro-batch {levers.per_device_batch_size}", f"ZeRO {levers.zero_stage}"]
    said += ["gradient checkpointing"] if levers.gradient_checkpointing else []
    said += [f"offload {levers.offload}"] if levers.offload != "none" else []
    return ", ".join(said)
