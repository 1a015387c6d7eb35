"""ONE trial: the only home of DeepSpeed and torch.distributed.

This door imports neither torch nor ray; the trainer lives in rank processes.
"""

from sweeper.train.engine import STARTUP, Engine, Job, Prepared, Progress, StepMetrics
from sweeper.train.schedules import lr_multiplier, warmup_steps

__all__ = ["STARTUP", "Engine", "Job", "Prepared", "Progress", "StepMetrics", "lr_multiplier", "warmup_steps"]
