"""How fast one trial of a shape trains, as it was measured."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Speed"]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one trial."""

    tokens_per_s: float
    """Real (non-padding) training tokens of all ranks together."""
    spread: float
    """(highest - lowest) / median of the measured optimizer steps' tokens_per_s."""
    evaluated_tokens_per_s: float
    """Real held-out tokens of all ranks together."""
    cold_start_s: float
    """From a worker's start to its first optimizer step: once for each of the trials side by side."""
    warm_start_s: float
    """From the end of a trial to the first optimizer step of the next one in the same worker."""
