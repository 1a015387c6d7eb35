"""The history of sweeps: what is in it, and how sweeps get in and out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sweeper.errors import Problem, UserError, first_line
from sweeper.history import HistoryFile, Imported, SweepOfHistory, history_path, past_sweep, read_import_map
from sweeper.redact import masked
from sweeper.space import SweepFolder, read_record
from sweeper.sweep.past_sweeps import sweeps_for_history
from sweeper.sweep.stored import open_sweep

__all__ = [
    "export_history",
    "find_sweeps",
    "forget_sweeps",
    "import_experiment",
    "import_stored",
    "import_study",
    "open_history",
]

_EXPORT_FORMAT = 1


def open_history(file: Path | None = None) -> HistoryFile:
    """That file, or the one that sweeps go by. Raises UserError where there is to be none."""
    path = file if file is not None else history_path(None)
    if path is None:
        raise UserError.of(
            where="SWEEPER_HISTORY",
            value="off",
            rule="there is no history of sweeps",
            remedy="name its file with --file, or unset the variable",
        )
    return HistoryFile(path)


def find_sweeps(history: HistoryFile, ids: Sequence[str]) -> list[SweepOfHistory]:
    """Those whose ids begin so, or that have such a name; all where none is named.

    Raises UserError naming each that is not there, or that is one of several.
    """
    sweeps = history.sweeps()
    found, problems = [], []
    for one in ids:
        matching = [sweep for sweep in sweeps if sweep.facts.id.startswith(one)]
        matching = matching or [sweep for sweep in sweeps if sweep.facts.name == one]
        if len(matching) == 1:
            found.append(matching[0])
            continue
        rule = "there is no such sweep in the history"
        if matching:
            rule = f"several sweeps are called so: {', '.join(sweep.facts.id[:8] for sweep in matching)}"
        where, remedy = str(history.path), "see `sweeper history list`"
        problems.append(Problem(where=where, value=one, rule=rule, remedy=remedy))
    if problems:
        raise UserError(problems)
    return found if ids else sweeps


def export_history(history: HistoryFile, ids: Sequence[str]) -> str:
    """These sweeps as JSON, for ``import_stored``."""
    tree = {"format": _EXPORT_FORMAT, "sweeps": [asdict(one) for one in find_sweeps(history, ids)]}
    return json.dumps(tree, indent=1) + "\n"


def forget_sweeps(history: HistoryFile, ids: Sequence[str]) -> list[SweepOfHistory]:
    """Returns what was removed. Raises UserError as ``find_sweeps``."""
    gone = find_sweeps(history, ids)
    history.forget(one.facts.id for one in gone)
    return gone


def import_stored(history: HistoryFile, source: Path) -> list[SweepOfHistory]:
    """From a file that ``export_history`` has written, or from a sweep's folder.

    Raises UserError where it is neither.
    """
    if source.is_dir():
        space, ledger = open_sweep(SweepFolder(source))
        sweeps = sweeps_for_history(space, ledger, ledger.trials())
    else:
        sweeps = _read_export(source)
    _write(history, sweeps)
    return sweeps


def import_study(history: HistoryFile, url: str, name: str, mapping_file: Path) -> Imported:
    """From an Optuna study. Raises UserError."""
    from sweeper.search import read_study

    mapping = read_import_map(mapping_file)
    trials, began_s = read_study(url, name)
    imported = past_sweep(trials, mapping, source=f"optuna {masked(url)}", name=name, began_s=began_s)
    _write(history, [imported.sweep])
    return imported


def import_experiment(history: HistoryFile, uri: str, name: str, mapping_file: Path) -> Imported:
    """From an MLflow experiment. Raises UserError."""
    from sweeper.track import read_runs

    mapping = read_import_map(mapping_file)
    trials, began_s = read_runs(uri, name, mapping.value or mapping.metric, mapping.names)
    imported = past_sweep(trials, mapping, source=f"mlflow {masked(uri)}", name=name, began_s=began_s)
    _write(history, [imported.sweep])
    return imported


def _write(history: HistoryFile, sweeps: Sequence[SweepOfHistory]) -> None:
    for sweep in sweeps:
        if sweep.trials:
            history.write(sweep.facts, sweep.trials)


def _read_export(file: Path) -> list[SweepOfHistory]:
    try:
        tree = json.loads(file.read_bytes())
        if tree["format"] != _EXPORT_FORMAT:
            raise ValueError(f"format {tree['format']}")
        return [read_record(SweepOfHistory, one) for one in tree["sweeps"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError.of(
            where=str(file),
            value=first_line(error),
            rule="is neither a sweep's folder nor an exported history",
            remedy="name a folder such as sweeps/<name>, or a file that `sweeper history export` has written",
        ) from error
