"""How big and how fast: what fits, what is fastest, and what a sweep will cost.

This door imports neither torch nor ray: the probes run in rank processes that the drive room starts.
"""

from sweeper.autotune.cost import (
    Limit,
    SweepCost,
    cost_line,
    cost_rows,
    lengths_of,
    limit_of,
    sweep_cost,
    trial_tokens,
)
from sweeper.autotune.lr_advice import compared, lr_span, settled, suggested
from sweeper.autotune.lr_picture import lr_picture
from sweeper.autotune.lr_range import STEPS, Bracket, LrRange, is_lost, read_range, tried_range
from sweeper.autotune.speed import Speed

__all__ = [
    "STEPS",
    "Bracket",
    "Limit",
    "LrRange",
    "Speed",
    "SweepCost",
    "compared",
    "cost_line",
    "cost_rows",
    "is_lost",
    "lengths_of",
    "limit_of",
    "lr_picture",
    "lr_span",
    "read_range",
    "settled",
    "suggested",
    "sweep_cost",
    "trial_tokens",
    "tried_range",
]
