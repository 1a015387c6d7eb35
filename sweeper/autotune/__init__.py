"""How big and how fast: what fits, what is fastest, and what a sweep will cost.

This door imports neither torch nor ray: the probes run in rank processes that the drive room starts.
"""

from sweeper.autotune.bracket import STEPS, Bracket, LrRange, is_lost, read_range, tried_range
from sweeper.autotune.estimate.cost import (
    Limit,
    SweepCost,
    cost_line,
    cost_rows,
    lengths_of,
    limit_of,
    sweep_cost,
    trial_tokens,
)
from sweeper.autotune.estimate.expected import PeakForecast
from sweeper.autotune.estimate.memory_model import Calibration, Memory, Pass, Workload, predict
from sweeper.autotune.estimate.speed import Speed
from sweeper.autotune.estimate.workload import workload_of
from sweeper.autotune.lookup import known_speed, known_tunings, left_to_measuring, reusable, shapes_of, tuned
from sweeper.autotune.lr_advice import compared, lr_span, settled, suggested
from sweeper.autotune.lr_picture import lr_picture
from sweeper.autotune.tuner import Tuner, few_passes, trained_rate
from sweeper.autotune.tuning import ProbeRecord, Tuning
from sweeper.autotune.tuning_cache import hardware_text, shape_text, write_tuning
from sweeper.autotune.tuning_tables import batch_arithmetic, system_rows, tuning_tables

__all__ = [
    "STEPS",
    "Bracket",
    "Calibration",
    "Limit",
    "LrRange",
    "Memory",
    "Pass",
    "PeakForecast",
    "ProbeRecord",
    "Speed",
    "SweepCost",
    "Tuner",
    "Tuning",
    "Workload",
    "batch_arithmetic",
    "compared",
    "cost_line",
    "cost_rows",
    "few_passes",
    "hardware_text",
    "is_lost",
    "known_speed",
    "known_tunings",
    "left_to_measuring",
    "lengths_of",
    "limit_of",
    "lr_picture",
    "lr_span",
    "predict",
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
