"""Ledger -> the answer: which trial was best, by how much, and the configuration to use.

Reads trial records only; nothing here trains, tracks or decides what is tried next.
"""

from sweeper.recommend.advice import Advice, advice, advice_lines
from sweeper.recommend.answer import answer, write_answer
from sweeper.recommend.certainty import confirmation_line, sure_line
from sweeper.recommend.ends import range_lines
from sweeper.recommend.export import EXPORT_FORMATS, export
from sweeper.recommend.peaks import memory_line
from sweeper.recommend.preference import PREFERENCES, Preference, front_line, preferred
from sweeper.recommend.ranking import ResultRow, best_record, default_record, improvement, result_rows
from sweeper.recommend.status import failure_lines, running_lines, sweep_status
from sweeper.recommend.table import (
    compact,
    paused_line,
    results_csv,
    results_markdown,
    results_rows,
    results_table,
    saved_line,
    summary_line,
    write_results,
)
from sweeper.recommend.transfer import phase_line, transfer_line, transfer_tree

__all__ = [
    "EXPORT_FORMATS",
    "PREFERENCES",
    "Advice",
    "Preference",
    "ResultRow",
    "advice",
    "advice_lines",
    "answer",
    "best_record",
    "compact",
    "confirmation_line",
    "default_record",
    "export",
    "failure_lines",
    "front_line",
    "improvement",
    "memory_line",
    "paused_line",
    "phase_line",
    "preferred",
    "range_lines",
    "result_rows",
    "results_csv",
    "results_markdown",
    "results_rows",
    "results_table",
    "running_lines",
    "saved_line",
    "summary_line",
    "sure_line",
    "sweep_status",
    "transfer_line",
    "transfer_tree",
    "write_answer",
    "write_results",
]
