"""What to know of the rows before they are trained on: what is lost, and what cannot be told."""

from __future__ import annotations

import math

from sweeper.space.config.facts import Facts
from sweeper.space.space import Space

__all__ = ["left_out_notes", "row_warnings"]

_MOST_LOST = 0.05
"""A loss of more rows than this for their length is a warning, not a note."""
_TOLD_APART = 0.02
"""Held-out rows that cannot show a difference of 2 % of the loss are a warning."""
_SPREAD = 0.5
"""Of the difference in a token's loss between two good configurations, relative to the mean loss; see
docs/decisions/0029."""


def row_warnings(space: Space) -> list[str]:
    """Warnings of lost rows and of a held-out set that is too small, each with its remedy."""
    return [*_lost(space), *_too_few_held_out(space.facts)]


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


def _too_few_held_out(facts: Facts) -> list[str]:
    """That two configurations have to differ by much to be told apart by the held-out rows: by two standard
    errors of the mean difference of a token's loss. Nothing where the tokens are not counted."""
    if not facts.eval_loss_tokens:
        return []
    difference = 2 * _SPREAD / math.sqrt(facts.eval_loss_tokens)
    if difference <= _TOLD_APART:
        return []
    needed = math.ceil(facts.eval_rows * (difference / _TOLD_APART) ** 2)
    return [
        f"{facts.eval_rows:,} held-out rows with {facts.eval_loss_tokens:,} tokens that carry loss show "
        f"differences of about {difference:.0%} of the loss and more; what is smaller may be chance. About "
        f"{needed:,} rows would show {_TOLD_APART:.0%}: raise eval_data, or name a file of held-out rows"
    ]


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
