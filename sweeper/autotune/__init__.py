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
from sweeper.autotune.speed import Speed

__all__ = [
    "Limit",
    "Speed",
    "SweepCost",
    "cost_line",
    "cost_rows",
    "lengths_of",
    "limit_of",
    "sweep_cost",
    "trial_tokens",
]
