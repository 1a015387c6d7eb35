"""ONE trial: the only home of DeepSpeed and torch.distributed.

This door imports neither torch nor ray; the trainer lives in rank processes.
"""

from sweeper.training.engine import STARTUP, Job, Prepared, Probed, Progress, StepMetrics, StepTime
from sweeper.training.moved import Moved, read_moved
from sweeper.training.ranks.processes import reap
from sweeper.training.retention import (
    CheckpointRetention,
    discard,
    newest_checkpoint,
    state_folder,
    states_in,
)

__all__ = [
    "STARTUP",
    "CheckpointRetention",
    "Job",
    "Moved",
    "Prepared",
    "Probed",
    "Progress",
    "StepMetrics",
    "StepTime",
    "discard",
    "newest_checkpoint",
    "read_moved",
    "reap",
    "state_folder",
    "states_in",
]
