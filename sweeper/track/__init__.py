"""Ledger events -> MLflow. The only home of mlflow, which is imported late and in one thread.

What lands there for one sweep: a parent run named after the sweep and a child run for each trial,
named after its number and its searched values. **The step of every metric is the number of training
tokens seen**, not the optimizer step, because trials differ in epochs and accumulation and only on that
axis can MLflow's charts compare them; the optimizer step is there as the metric ``train/step``.
"""

from sweeper.track.boards import BoardWriter, boards_of, check_boards
from sweeper.track.foreign_runs import read_runs
from sweeper.track.names import run_name
from sweeper.track.points import MetricPoint, evaluation_points, judged_by, second_by, training_points
from sweeper.track.reader import TrackedTrial, read_trials
from sweeper.track.run_writer import Content
from sweeper.track.text import chart_params
from sweeper.track.tracker import Tracker
from sweeper.track.trainer_metrics import read_metrics
from sweeper.track.ui import comparison_url, serve_ui
from sweeper.track.uri import masked, tracking_uri

__all__ = [
    "BoardWriter",
    "Content",
    "MetricPoint",
    "TrackedTrial",
    "Tracker",
    "boards_of",
    "chart_params",
    "check_boards",
    "comparison_url",
    "evaluation_points",
    "judged_by",
    "masked",
    "read_metrics",
    "read_runs",
    "read_trials",
    "run_name",
    "second_by",
    "serve_ui",
    "tracking_uri",
    "training_points",
]
