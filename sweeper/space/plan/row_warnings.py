"""What to know of the rows before they are trained on: what is lost, and what cannot be told."""

from __future__ import annotations

from sweeper.space.config.facts import Facts
from sweeper.space.plan.held_out import held_out_warnings
from sweeper.space.space import Space

__all__ = ["left_out_notes", "row_warnings"]

_MOST_LOST = 0.05
"""A loss of more rows than this for their length is a warning, not a note."""


def row_warnings(space: Space) -> list[str]:
    """Warnings of lost rows and of of a held-out set that is too small or costs too much, each with its
    remedy."""
    return [*_lost(space), *held_out_warnings(space)]


def left_out_notes(facts: Facts) -> list[str]:
    """Which rows are left out or cut, with their numbers."""
    about = "about " if facts.rows_estimated else ""
    reasons = {
        "broken": (facts.rows_bad, ""),
        "without an answer": (facts.rows_without_answer, ""),
        "equal to a held-out row": (facts.rows_leaked, ""),
        "without an answer within max_seq_len": (facts.rows_too_long, about),
    }
    told = [f"{prefix}{count:,} {reason}" for reason, (count, prefix) in reasons.items() if count]
    notes = [f"rows left out: {', '.join(told)}"] if told else []
    if facts.rows_cut:
        notes.append(f"{about}{facts.rows_cut:,} rows are cut to max_seq_len")
    return notes


def _lost(space: Space) -> list[str]:
    facts = space.facts
    total = facts.train_rows + facts.eval_rows + facts.rows_too_long
    lost = facts.rows_too_long / max(total, 1)
    if lost <= _MOST_LOST or facts.enough_tokens is None:
        return []
    most, nearly_all = facts.enough_tokens
    length, whole = space.closed["training.max_seq_len"], space.closed["training.overlong"] == "drop"
    reason = "are longer than" if whole else "have no answer within"
    limit = facts.max_position_embeddings
    beyond = f" (the model has {limit:,} positions)" if limit and nearly_all > limit else ""
    return [
        f"{lost:.0%} of the rows {reason} {length:,} tokens and are left out: max_seq_len: {most} would "
        f"keep 95 % of them, {nearly_all} would keep 99 %{beyond}"
    ]
