"""What earlier sweeps found: one file for all sweeps of a user, and what each sweep takes of it.

Holds settings, losses and sizes, and names of files; nothing of the data's text.
"""

from sweeper.history.features import Features, features_of, lr_ratio, model_features, similarity
from sweeper.history.history_file import HistoryFile, history_path
from sweeper.history.importing import ForeignTrial, Imported, ImportMap, past_sweep, read_import_map
from sweeper.history.snapshot import Snapshot, read_snapshot, take_snapshot, write_snapshot
from sweeper.history.stored import SECTIONS, PastTrial, SweepFacts, SweepOfHistory

__all__ = [
    "SECTIONS",
    "Features",
    "ForeignTrial",
    "HistoryFile",
    "ImportMap",
    "Imported",
    "PastTrial",
    "Snapshot",
    "SweepFacts",
    "SweepOfHistory",
    "features_of",
    "history_path",
    "lr_ratio",
    "model_features",
    "past_sweep",
    "read_import_map",
    "read_snapshot",
    "similarity",
    "take_snapshot",
    "write_snapshot",
]
