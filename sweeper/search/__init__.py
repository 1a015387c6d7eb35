"""Which configuration next: the ledger of a sweep, the samplers that propose and the stoppers that end.

Importing this room is cheap: Optuna is imported when a ledger is opened.
"""

from sweeper.search.auto import Past, how_sure
from sweeper.search.commits import is_committing
from sweeper.search.edges import Edge, edges
from sweeper.search.extending import space_in_force
from sweeper.search.finals.confirm import (
    Candidate,
    Confirmation,
    Interval,
    asked_config,
    chosen,
    confirmation_of,
    contenders,
    paired_difference,
)
from sweeper.search.finals.proxy import (
    Pair,
    Transfer,
    next_final,
    runs_of_finals,
    to_train_again,
    transfer_of,
)
from sweeper.search.foreign_study import read_study
from sweeper.search.front import best_of, expected_second, feasible, front_of, second_of
from sweeper.search.grid import configurations
from sweeper.search.ledger import Ledger
from sweeper.search.records import (
    Evaluation,
    TrialRecord,
    TrialState,
    begun,
    eligible,
    is_diverged,
    own_evaluations,
    searched,
    violation_of,
)
from sweeper.search.samplers import check_sampler
from sweeper.search.stoppers import Pause, StopDecision, Stopper, make_stopper
from sweeper.search.storage import absolute_address, check_storage

__all__ = [
    "Candidate",
    "Confirmation",
    "Edge",
    "Evaluation",
    "Interval",
    "Ledger",
    "Pair",
    "Past",
    "Pause",
    "StopDecision",
    "Stopper",
    "Transfer",
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
    "edges",
    "eligible",
    "expected_second",
    "feasible",
    "front_of",
    "how_sure",
    "is_committing",
    "is_diverged",
    "make_stopper",
    "next_final",
    "own_evaluations",
    "paired_difference",
    "read_study",
    "runs_of_finals",
    "searched",
    "second_of",
    "space_in_force",
    "to_train_again",
    "transfer_of",
    "violation_of",
]
