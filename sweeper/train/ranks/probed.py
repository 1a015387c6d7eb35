"""What a probe of one configuration measured; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Probed", "StepTime"]


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """One optimizer step, on the rank that answers."""

    tokens: int
    """Real tokens of all ranks."""
    seconds: float
    """Until all ranks had moved their weights."""
    passes_s: tuple[float, ...]
    """Each forward and backward pass; the last one with the optimizer's work. In a pipeline, where
    passes overlap, only their sum means something."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A few optimizer steps of one configuration."""

    steps: tuple[StepTime, ...]
    """Those after the warm-up."""
    passes: tuple[tuple[tuple[int, int], ...], ...]
    """[optimizer step, the warm-up included][pass]: tokens and completion tokens, of the rank with most."""
    held_out: tuple[int, int]
    """The same of the largest pass of an evaluation."""
    evaluated_tokens_per_s: float
    """Of all ranks, evaluating."""
    startup_s: float
    """From the call to the first optimizer step, in a process that was there."""
    idle_gib: float
    """What the process held before it had a model."""
    peak_gib: float
    """The highest of all ranks, the idle process included."""
