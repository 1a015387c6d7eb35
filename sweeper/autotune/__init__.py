"""How big and how fast: what fits, what is fastest, and what a sweep will cost.

Importing this needs neither torch nor ray: the probes run in rank processes that ``commands`` starts.
"""

from sweeper.autotune.bracket import STEPS, LrRange, is_lost, read_range, tried_range
from sweeper.autotune.estimate.cost import (
    MOST_RESERVED,
    Limit,
    Speed,
    cost_line,
    cost_rows,
    lengths_of,
    limit_of,
    price_per_hour,
    sweep_cost,
    trial_tokens,
)
from sweeper.autotune.estimate.memory_model import Calibration, Memory, Pass, Workload, predict
from sweeper.autotune.estimate.workload import workload_of
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
from sweeper.autotune.tuner import Tuner, few_passes, trained_rate
from sweeper.autotune.tuning import (
    ProbeRecord,
    Tuning,
    cache_root,
    hardware_text,
    in_words,
    shape_text,
    write_tuning,
)
from sweeper.autotune.tuning_tables import system_rows, tuning_tables

__all__ = [
    "MOST_RESERVED",
    "STEPS",
    "Calibration",
    "Limit",
    "LrRange",
    "Memory",
    "Pass",
    "PeakForecast",
    "ProbeRecord",
    "Speed",
    "Tuner",
    "Tuning",
    "Workload",
    "cache_root",
    "compared",
    "cost_line",
    "cost_rows",
    "few_passes",
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
    "predict",
    "price_per_hour",
    "read_range",
    "reusable",
    "settled",
    "shape_text",
    "shapes_of",
    "suggested",
    "sweep_cost",
    "system_rows",
    "trained_rate",
    "trial_tokens",
    "tried_range",
    "tuned",
    "tuning_tables",
    "workload_of",
    "write_tuning",
]
