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
    compared = [
        (peak.measured_gib, abs(peak.predicted_gib - peak.measured_gib), peak.measured_gib - peak.idle_gib)
        for peak in map(peak_of, trials)
        if peak.predicted_gib is not None
        and peak.measured_gib is not None
        and peak.measured_gib > peak.idle_gib
    ]
    if not compared:
        return None
    highest, off_gib, _ = (max(column) for column in zip(*compared, strict=True))
    errors = [off_gib / added_gib for _, off_gib, added_gib in compared]
    return (
        f"memory of a rank: {highest:.2f} GiB at most; predicted within {off_gib:.2f} GiB, which is "
        f"{max(errors):.1%} of what a trial adds ({sum(errors) / len(errors):.1%} on average over "
        f"{len(errors)} trials)"
    )
