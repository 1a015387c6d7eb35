"""What history keeps of a sweep and of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.history.features import Features

__all__ = ["SECTIONS", "PastTrial", "SweepFacts", "SweepOfHistory"]

SECTIONS = ("training", "deepspeed", "parallel")
"""The sections of a configuration that are kept: all that a trial may have differently from another. Paths,
templates and addresses are in others."""

State = Literal["COMPLETE", "PRUNED", "FAIL", "PAUSED"]


@dataclass(frozen=True, kw_only=True)
class PastTrial:
    """One trial of another sweep."""

    number: int
    state: State
    """As in a ledger. FAIL: it diverged; a trial that failed for no fault of its values is not kept."""
    config: Mapping[str, Mapping[str, Any]]
    """The closed configuration: ``{"training": {"lr": 1e-3, ...}, "deepspeed": ..., "parallel": ...}``, those
    fields too that the sweep did not search. One that was imported has those that its source told."""
    evaluations: tuple[tuple[float, float | None], ...] = ()
    """(training tokens, the sweep's metric; None where it was not finite), in the order of tokens."""
    total_tokens: float | None = None
    """Of the whole training."""
    seconds: float | None = None
    peak_memory_gib: float | None = None


@dataclass(frozen=True, kw_only=True)
class SweepFacts:
    """One sweep without its trials."""

    id: str
    name: str
    metric: str
    """Sweeps of different metrics are never compared."""
    mode: Literal["min", "max"]
    began_s: float
    """In seconds since the epoch."""
    features: Features
    source: str = "sweeper"
    """``sweeper``, or where it was imported from."""
    version: str = ""
    """Of sweeper."""


@dataclass(frozen=True, kw_only=True)
class SweepOfHistory:
    """One sweep with its trials."""

    facts: SweepFacts
    trials: tuple[PastTrial, ...]
