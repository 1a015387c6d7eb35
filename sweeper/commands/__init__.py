"""One story for each command, from its files to its answer; what Python users call.

Importing this needs neither ray nor torch.
"""

from sweeper.commands.autotune import autotune_file
from sweeper.commands.best import best_configuration, best_export, export_tree, write_export
from sweeper.commands.compare import compare_sweeps, write_comparison
from sweeper.commands.init import import_file, start_file, write_import
from sweeper.commands.lr_range import LrRangeResult, find_lr_range
from sweeper.commands.report import WrittenReport, write_report
from sweeper.commands.run import SweepResult, load_sweep, resume_sweep, room_on_nodes, run_sweep
from sweeper.commands.sync import sync_sweep
from sweeper.commands.train import TrainResult, train_config
from sweeper.screen.screen import Verbosity
from sweeper.sweep.stored import newest_sweep, open_sweep, sweep_state

__all__ = [
    "LrRangeResult",
    "SweepResult",
    "TrainResult",
    "Verbosity",
    "WrittenReport",
    "autotune_file",
    "best_configuration",
    "best_export",
    "compare_sweeps",
    "export_tree",
    "find_lr_range",
    "import_file",
    "load_sweep",
    "newest_sweep",
    "open_sweep",
    "resume_sweep",
    "room_on_nodes",
    "run_sweep",
    "start_file",
    "sweep_state",
    "sync_sweep",
    "train_config",
    "write_comparison",
    "write_export",
    "write_import",
    "write_report",
]
