"""Which configuration next: the ledger of a sweep, the samplers that propose and the stoppers that end.

Importing this room is cheap: Optuna is imported when a ledger is opened.
"""

from sweeper.search.auto import how_sure
from sweeper.search.commits import is_committing
from sweeper.search.confirm import (
    Candidate,
    Confirmation,
    Interval,
    asked_config,
    chosen,
    confirmation_of,
    contenders,
    paired_difference,
)
from sweeper.search.grid import configurations
from sweeper.search.ledger import Ledger
from sweeper.search.records import Evaluation, TrialRecord, TrialState, begun, best_of, searched
from sweeper.search.samplers import check_sampler
from sweeper.search.stoppers import Pause, StopDecision, Stopper, make_stopper
from sweeper.search.storage import absolute_address, check_storage

__all__ = [
    "Candidate",
    "Confirmation",
    "Evaluation",
    "Interval",
    "Ledger",
    "Pause",
    "StopDecision",
    "Stopper",
    "TrialRecord",
    "TrialState",
    "absolute_address",
    "asked_config",
    "begun",
    "best_of",
    "check_sampler",
    "check_storage",
    "chosen",
    "configurations",
    "confirmation_of",
    "contenders",
    "how_sure",
    "is_committing",
    "make_stopper",
    "paired_difference",
    "searched",
]
