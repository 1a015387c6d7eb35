"""WHAT is asked: the space file as frozen, validated models.

A space file is a training configuration in which some values are still open; a configuration is
one with nothing open. Neither torch nor any other heavy library is imported here.
"""

from sweeper.spec.address import ClusterAddress, cluster_address
from sweeper.spec.checks import GROUPS, STAGED
from sweeper.spec.concurrency import with_concurrency
from sweeper.spec.config import (
    Checkpoints,
    Config,
    DataFormat,
    DataSource,
    Deepspeed,
    Evaluation,
    Lora,
    Objective,
    Parallel,
    Resources,
    RowField,
    Scheduler,
    Search,
    Settings,
    TemplateName,
    Tracking,
    Training,
)
from sweeper.spec.dump import dump_config
from sweeper.spec.duration import duration_text
from sweeper.spec.facts import Facts, ModelSizes, SampledRows
from sweeper.spec.files import write_whole
from sweeper.spec.folder import SweepFolder
from sweeper.spec.labels import short_label
from sweeper.spec.levers import (
    SYSTEM,
    Levers,
    TooLarge,
    fitted,
    levers_of,
    lighter,
    split_of,
    with_levers,
    with_system,
)
from sweeper.spec.load import load_space
from sweeper.spec.metrics import (
    EXACT_MATCH,
    PEAK_MEMORY,
    MetricFunction,
    load_metric,
    metric_name,
    require_metrics,
)
from sweeper.spec.opening import RangeTest
from sweeper.spec.plan import TRUSTED, Plan, count_trials, make_plan, render
from sweeper.spec.row_warnings import row_warnings
from sweeper.spec.rules import lr as rule_of_thumb_lr
from sweeper.spec.schema import json_schema
from sweeper.spec.secrets import read_secrets, secrets_of, write_secrets
from sweeper.spec.sizes import TrialSize, size_of, trial_sizes
from sweeper.spec.space import Dimension, Space, require_closed, require_hardware, require_open
from sweeper.spec.values import Choice, IntRange, LogUniform, OpenValue, Scalar, Uniform, Values
from sweeper.spec.versions import (
    begun_format,
    lasting_tree,
    mark_format,
    read_config,
    read_record,
    require_format,
)

__all__ = [
    "EXACT_MATCH",
    "GROUPS",
    "PEAK_MEMORY",
    "STAGED",
    "SYSTEM",
    "TRUSTED",
    "Checkpoints",
    "Choice",
    "ClusterAddress",
    "Config",
    "DataFormat",
    "DataSource",
    "Deepspeed",
    "Dimension",
    "Evaluation",
    "Facts",
    "IntRange",
    "Levers",
    "LogUniform",
    "Lora",
    "MetricFunction",
    "ModelSizes",
    "Objective",
    "OpenValue",
    "Parallel",
    "Plan",
    "RangeTest",
    "Resources",
    "RowField",
    "SampledRows",
    "Scalar",
    "Scheduler",
    "Search",
    "Settings",
    "Space",
    "SweepFolder",
    "TemplateName",
    "TooLarge",
    "Tracking",
    "Training",
    "TrialSize",
    "Uniform",
    "Values",
    "begun_format",
    "cluster_address",
    "count_trials",
    "dump_config",
    "duration_text",
    "fitted",
    "json_schema",
    "lasting_tree",
    "levers_of",
    "lighter",
    "load_metric",
    "load_space",
    "make_plan",
    "mark_format",
    "metric_name",
    "read_config",
    "read_record",
    "read_secrets",
    "render",
    "require_closed",
    "require_format",
    "require_hardware",
    "require_metrics",
    "require_open",
    "row_warnings",
    "rule_of_thumb_lr",
    "secrets_of",
    "short_label",
    "size_of",
    "split_of",
    "trial_sizes",
    "with_concurrency",
    "with_levers",
    "with_system",
    "write_secrets",
    "write_whole",
]
