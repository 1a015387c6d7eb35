"""Ray Tune drives: trials on warm workers, the ledger first, then the listeners.

Importing this needs neither ray nor torch.
"""

from sweeper.drive.run import SweepResult, open_sweep, resume_sweep, run_sweep, sweep_state, tracking_uri_of
from sweeper.drive.train import TrainResult, train_config

__all__ = [
    "SweepResult",
    "TrainResult",
    "open_sweep",
    "resume_sweep",
    "run_sweep",
    "sweep_state",
    "tracking_uri_of",
    "train_config",
]
