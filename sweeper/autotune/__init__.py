"""How big and how fast: what fits, what is fastest, and what a sweep will cost.

Importing this needs neither torch nor ray: the probes run in rank processes that ``commands`` starts.
"""

from sweeper.autotune.bracket import STEPS, LrRange, is_lost, read_range, tried_range
from sweeper.autotune.estimate.cost import (
    MOST_RESERVED,
    Limit,
    Speed,
    cost_rows,
    lengths_of,
    limit_of,
    price_per_hour,
    trial_tokens,
)
from sweeper.autotune.lookup import (
    PeakForecast,
    known_speed,
    known_tunings,
    left_to_measuring,
    reusable,
    shapes_of,
    tuned,
)
from sweeper.autotune.lr_advice import compared, lr_span, settled, suggested
from sweeper.autotune.lr_picture import lr_picture
from sweeper.autotune.tuner import Tuner
from sweeper.autotune.tuning import (
    Tuning,
    cache_root,
    hardware_text,
    in_words,
    shape_text,
    write_tuning,
)
from sweeper.autotune.tuning_tables import system_rows, tuning_tables, tunings_tree

__all__ = [
    "MOST_RESERVED",
    "STEPS",
    "Limit",
    "LrRange",
    "PeakForecast",
    "Speed",
    "Tuner",
    "Tuning",
    "cache_root",
    "compared",
    "cost_rows",
    "hardware_text",
    "in_words",
    "is_lost",
    "known_speed",
    "known_tunings",
    "left_to_measuring",
    "lengths_of",
    "limit_of",
    "lr_picture",
    "lr_span",
    "price_per_hour",
    "read_range",
    "reusable",
    "settled",
    "shape_text",
    "shapes_of",
    "suggested",
    "system_rows",
    "trial_tokens",
    "tried_range",
    "tuned",
    "tuning_tables",
    "tunings_tree",
    "write_tuning",
]
