"""Ray Tune drives: trials on warm workers, the ledger first, then the listeners.

Importing this needs neither ray nor torch.
"""

from sweeper.drive.lr_range import LrRangeResult, find_lr_range
from sweeper.drive.run import SweepResult, resume_sweep, run_sweep
from sweeper.drive.screen import Verbosity
from sweeper.drive.stored import newest_sweep, open_sweep, sweep_state
from sweeper.drive.sync import sync_sweep
from sweeper.drive.train import TrainResult, train_config
from sweeper.drive.tuning import autotune_file

__all__ = [
    "LrRangeResult",
    "SweepResult",
    "TrainResult",
    "Verbosity",
    "autotune_file",
    "find_lr_range",
    "newest_sweep",
    "open_sweep",
    "resume_sweep",
    "run_sweep",
    "sweep_state",
    "sync_sweep",
    "train_config",
]
