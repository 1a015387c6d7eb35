"""How many held-out rows the loss is measured on (``evaluation.held_out_rows``), what that costs, and which
differences between two configurations it can show."""

from __future__ import annotations

import math
from dataclasses import replace

from sweeper.space.config.closing import HELD_OUT_ROWS
from sweeper.space.plan.trial_sizes import trial_sizes
from sweeper.space.space import Space

__all__ = ["enough_held_out_rows", "held_out_notes", "held_out_warnings", "with_enough_held_out_rows"]

_SPREAD = 0.5
"""Of the difference in a token's loss between two good configurations, relative to the mean loss; see
docs/decisions/0029."""
_WANTED, _LEAST = 0.005, 0.02
"""Differences, as shares of the loss: what ``auto`` wants to be seen, and what it pays any price for. Rows
that cannot show the latter are a warning."""
_MOST_COST = 0.1
"""Tokens that the evaluations of a trial read, for each that it trains on."""


def with_enough_held_out_rows(space: Space) -> Space:
    """The space with ``held_out_rows: auto`` settled: the number is the same for all trials."""
    rows = enough_held_out_rows(space)
    evaluation = space.settings.evaluation.model_copy(update={"held_out_rows": rows})
    return replace(
        space,
        settings=space.settings.model_copy(update={"evaluation": evaluation}),
        closed={**space.closed, HELD_OUT_ROWS: rows},
    )


def enough_held_out_rows(space: Space) -> int:
    """As many as show a difference of half a per cent, if a tenth of the shortest trial's training tokens
    pays for them; else as many as that pays for, but no fewer than show 2 %. All where their tokens are not
    counted."""
    return _enough(space, _cost_of_row(space)) if space.facts.eval_loss_tokens else space.facts.eval_rows


def _enough(space: Space, cost_of_row: float) -> int:
    paid = math.floor(_MOST_COST / cost_of_row)
    rows = max(min(_rows_showing(space, _WANTED), paid), _rows_showing(space, _LEAST), 1)
    return min(rows, space.facts.eval_rows)


def held_out_notes(space: Space) -> list[str]:
    """What the rows that the loss is measured on can show, where they are not all that there are."""
    rows, facts = space.eval_rows, space.facts
    if rows == facts.eval_rows or not facts.eval_loss_tokens:
        return []
    return [
        f"the loss is measured on {rows:,} of {facts.eval_rows:,} held-out rows, evenly spread: they show "
        f"differences of about {_shown_by(space, rows):.1%} of it, and evaluations read about "
        f"{rows * _cost_of_row(space):.0%} of the tokens that the shortest trial trains on"
    ]


def held_out_warnings(space: Space) -> list[str]:
    """That two configurations have to differ by much to be told apart, or that evaluations read more than
    telling them apart takes. Nothing where the tokens are not counted."""
    facts, rows = space.facts, space.eval_rows
    if not facts.eval_loss_tokens:
        return []
    shown = _shown_by(space, rows)
    if shown > _LEAST:
        needed = _rows_showing(space, _LEAST)
        more = "raise eval_data, or name a file of held-out rows"
        remedy = "raise held_out_rows" if needed <= facts.eval_rows else more
        return [
            f"{rows:,} held-out rows with {_loss_tokens(space, rows):,} tokens that carry loss show "
            f"differences of about {shown:.0%} of the loss and more; what is smaller may be chance. About "
            f"{needed:,} rows would show {_LEAST:.0%}: {remedy}"
        ]
    cost_of_row = _cost_of_row(space)
    cost, enough = rows * cost_of_row, _enough(space, cost_of_row)
    if cost <= _MOST_COST or enough >= rows:
        return []
    return [
        f"the evaluations of a trial read about {cost:.0%} as many tokens as it trains on: "
        f"evaluation: {{held_out_rows: auto}} would measure the loss on {enough:,} of {rows:,} held-out "
        f"rows, which show differences of about {_shown_by(space, enough):.1%}"
    ]


def _loss_tokens(space: Space, rows: int) -> int:
    facts = space.facts
    return max(round((facts.eval_loss_tokens or 0) * rows / facts.eval_rows), 1)


def _shown_by(space: Space, rows: int) -> float:
    """Two standard errors of the mean difference of a token's loss, as a share of the loss."""
    return 2 * _SPREAD / math.sqrt(_loss_tokens(space, rows))


def _rows_showing(space: Space, difference: float) -> int:
    facts = space.facts
    tokens = round((2 * _SPREAD / difference) ** 2)
    return math.ceil(tokens * facts.eval_rows / (facts.eval_loss_tokens or 1))


def _cost_of_row(space: Space) -> float:
    """What the evaluations of the shortest trial read for each held-out row, as a share of the tokens that it
    trains on. Looks at all combinations of open values that change the length of a trial."""
    shortest = min(trial_sizes(space), key=lambda one: one.rows)
    trained_rows = shortest.rows * (space.settings.search.proxy.rows or 1)
    evaluations = min(space.settings.objective.evaluations, shortest.steps)
    return evaluations * space.facts.eval_row_cost / trained_rows
