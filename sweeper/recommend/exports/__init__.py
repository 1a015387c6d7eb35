"""The answer in the words of other trainers: one table for each, and what is special about it beside it.

Knows configurations only; no sweep, no ledger, no files.
"""

from sweeper.recommend.exports.consumer import Consumer, Found, Note, Run, values_of
from sweeper.recommend.exports.export import CONSUMERS, SCHEDULE, Exported, exported, keys_of, on_gpus

__all__ = [
    "CONSUMERS",
    "SCHEDULE",
    "Consumer",
    "Exported",
    "Found",
    "Note",
    "Run",
    "exported",
    "keys_of",
    "on_gpus",
    "values_of",
]
