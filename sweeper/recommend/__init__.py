"""Ledger -> the answer: which trial was best, by how much, and the configuration to use.

Reads trial records only; nothing here trains, tracks or decides what is tried next.
"""

from sweeper.recommend.answer import write_answer
from sweeper.recommend.certainty import confirmation_line, sure_line
from sweeper.recommend.export import EXPORT_FORMATS, export
from sweeper.recommend.peaks import memory_line
from sweeper.recommend.ranking import ResultRow, best_record, default_record, improvement, result_rows
from sweeper.recommend.status import running_lines, sweep_status
from sweeper.recommend.table import (
    compact,
    paused_line,
    results_csv,
    results_markdown,
    results_rows,
    results_table,
    summary_line,
    write_results,
)

__all__ = [
    "EXPORT_FORMATS",
    "ResultRow",
    "best_record",
    "compact",
    "confirmation_line",
    "default_record",
    "export",
    "improvement",
    "memory_line",
    "paused_line",
    "result_rows",
    "results_csv",
    "results_markdown",
    "results_rows",
    "results_table",
    "running_lines",
    "summary_line",
    "sure_line",
    "sweep_status",
    "write_answer",
    "write_results",
]
