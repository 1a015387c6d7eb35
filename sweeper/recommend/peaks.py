"""Predicted and measured memory of the trials, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.search import TrialRecord
from sweeper.space import PEAK_MEMORY

__all__ = ["Peak", "memory_line", "peak_of"]


@dataclass(frozen=True, kw_only=True)
class Peak:
    """One trial's highest memory of one rank, GiB; on a CPU of the whole process."""

    predicted_gib: float | None
    measured_gib: float | None
    idle_gib: float
    """What the process held before it had a model: no prediction is owed for that."""

    @property
    def off_gib(self) -> float | None:
        """Predicted - measured."""
        if self.predicted_gib is None or self.measured_gib is None:
            return None
        return self.predicted_gib - self.measured_gib

    @property
    def error(self) -> float | None:
        """(predicted - measured) / measured, of what the trial took over the idle process."""
        if self.off_gib is None or self.measured_gib is None or self.measured_gib <= self.idle_gib:
            return None
        return self.off_gib / (self.measured_gib - self.idle_gib)


def peak_of(record: TrialRecord) -> Peak:
    """What the ledger has of a trial."""
    measured = [one.metrics[PEAK_MEMORY] for one in record.evaluations if PEAK_MEMORY in one.metrics]
    return Peak(
        predicted_gib=record.attributes.get("predicted_memory_gib"),
        measured_gib=max(measured, default=None),
        idle_gib=float(record.attributes.get("idle_memory_gib", 0.0)),
    )


def memory_line(trials: Sequence[TrialRecord]) -> str | None:
    """One sentence on how well the peaks were predicted; None where there is nothing to compare."""
    peaks = [peak for record in trials if (peak := peak_of(record)).error is not None]
    if not peaks:
        return None
    highest = max(peak.measured_gib or 0.0 for peak in peaks)
    shares = [abs(peak.error or 0.0) for peak in peaks]
    off_gib = max(abs(peak.off_gib or 0.0) for peak in peaks)
    return (
        f"memory of a rank: {highest:.2f} GiB at most; predicted within {off_gib:.2f} GiB, which is "
        f"{max(shares):.1%} of what a trial adds ({sum(shares) / len(shares):.1%} on average over "
        f"{len(peaks)} trials)"
    )
