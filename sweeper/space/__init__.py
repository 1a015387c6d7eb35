"""WHAT is asked: the space file as frozen, validated models.

A space file is a training configuration in which some values are still open; a configuration is
one with nothing open. Neither torch nor any other heavy library is imported here.
"""

from sweeper.space.atomic_write import unwritable, write_named, write_whole
from sweeper.space.checks import GROUPS, STAGED
from sweeper.space.config.address import ClusterAddress, cluster_address
from sweeper.space.config.config import (
    Checkpoints,
    Config,
    DataFormat,
    DataSource,
    Deepspeed,
    Evaluation,
    Lora,
    Parallel,
    Resources,
    RowField,
    Scheduler,
    Settings,
    TemplateName,
    Tracking,
    Training,
)
from sweeper.space.config.constraints import Constraint, constraints_of, violation
from sweeper.space.config.duration import duration_text
from sweeper.space.config.environment import environment
from sweeper.space.config.facts import Facts, ModelSizes, ProxyModel, SampledRows
from sweeper.space.config.mixture import times_seen
from sweeper.space.config.rules import lr as rule_of_thumb_lr
from sweeper.space.config.search import Confirm, Extend, Objective
from sweeper.space.config.values import (
    Choice,
    IntRange,
    LogUniform,
    OpenValue,
    Scalar,
    Uniform,
    Values,
    as_tree,
    describe,
    from_tree,
    is_number,
)
from sweeper.space.config.values import text as value_text
from sweeper.space.engine.section import THE_ENGINES, Engine, EngineMetrics
from sweeper.space.engine.trial import command_of, placed, trainer_tree
from sweeper.space.file.dump import dump_config
from sweeper.space.file.opening import RangeTest
from sweeper.space.folder import SweepFolder
from sweeper.space.labels import short_label
from sweeper.space.load import load_space
from sweeper.space.metrics import (
    EXACT_MATCH,
    PEAK_MEMORY,
    RETENTION_INCREASE,
    RETENTION_LOSS,
    MetricFunction,
    load_metric,
    metric_name,
)
from sweeper.space.plan.plan import TRUSTED, count_runs, count_trials, make_plan, render
from sweeper.space.plan.plan_tree import plan_tree
from sweeper.space.plan.row_warnings import row_warnings
from sweeper.space.plan.system import (
    SYSTEM,
    SystemConfig,
    TooLarge,
    fitted,
    next_memory_fallback,
    split_of,
    system_config_of,
    with_system,
    with_system_config,
)
from sweeper.space.plan.trial_sizes import TrialSize, size_of, trial_sizes
from sweeper.space.proxy import (
    full_runs,
    on_proxy,
    proxied,
    proxy_lr_factor,
    proxy_warnings,
    proxy_words,
    real_config,
    search_config,
    shares_of_proxy,
    without_proxy,
)
from sweeper.space.requirements import (
    require_closed,
    require_hardware,
    require_metrics,
    require_open,
    require_own_trainer,
)
from sweeper.space.schedules import lr_multiplier
from sweeper.space.schema import json_schema
from sweeper.space.secrets import read_secrets, secrets_of, write_secrets
from sweeper.space.space import Dimension, Space
from sweeper.space.versions import (
    begun_format,
    lasting_tree,
    mark_format,
    read_config,
    read_record,
)
from sweeper.space.widening import Side, is_ordered, is_sound, wider, with_open_values

__all__ = [
    "EXACT_MATCH",
    "GROUPS",
    "PEAK_MEMORY",
    "RETENTION_INCREASE",
    "RETENTION_LOSS",
    "STAGED",
    "SYSTEM",
    "THE_ENGINES",
    "TRUSTED",
    "Checkpoints",
    "Choice",
    "ClusterAddress",
    "Config",
    "Confirm",
    "Constraint",
    "DataFormat",
    "DataSource",
    "Deepspeed",
    "Dimension",
    "Engine",
    "EngineMetrics",
    "Evaluation",
    "Extend",
    "Facts",
    "IntRange",
    "LogUniform",
    "Lora",
    "MetricFunction",
    "ModelSizes",
    "Objective",
    "OpenValue",
    "Parallel",
    "ProxyModel",
    "RangeTest",
    "Resources",
    "RowField",
    "SampledRows",
    "Scalar",
    "Scheduler",
    "Settings",
    "Side",
    "Space",
    "SweepFolder",
    "SystemConfig",
    "TemplateName",
    "TooLarge",
    "Tracking",
    "Training",
    "TrialSize",
    "Uniform",
    "Values",
    "as_tree",
    "begun_format",
    "cluster_address",
    "command_of",
    "constraints_of",
    "count_runs",
    "count_trials",
    "describe",
    "dump_config",
    "duration_text",
    "environment",
    "fitted",
    "from_tree",
    "full_runs",
    "is_number",
    "is_ordered",
    "is_sound",
    "json_schema",
    "lasting_tree",
    "load_metric",
    "load_space",
    "lr_multiplier",
    "make_plan",
    "mark_format",
    "metric_name",
    "next_memory_fallback",
    "on_proxy",
    "placed",
    "plan_tree",
    "proxied",
    "proxy_lr_factor",
    "proxy_warnings",
    "proxy_words",
    "read_config",
    "read_record",
    "read_secrets",
    "real_config",
    "render",
    "require_closed",
    "require_hardware",
    "require_metrics",
    "require_open",
    "require_own_trainer",
    "row_warnings",
    "rule_of_thumb_lr",
    "search_config",
    "secrets_of",
    "shares_of_proxy",
    "short_label",
    "size_of",
    "split_of",
    "system_config_of",
    "times_seen",
    "trainer_tree",
    "trial_sizes",
    "unwritable",
    "value_text",
    "violation",
    "wider",
    "with_open_values",
    "with_system",
    "with_system_config",
    "without_proxy",
    "write_named",
    "write_secrets",
    "write_whole",
]
