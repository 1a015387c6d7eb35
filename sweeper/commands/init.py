"""A space file to start from: of a model and rows, or of the file of another trainer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sweeper.data import first_look
from sweeper.errors import UserError
from sweeper.history import HistoryFile, SweepOfHistory, history_path
from sweeper.recommend.imports import (
    IMPORT_FORMATS,
    Beginning,
    Imported,
    Method,
    Start,
    consumer_of,
    imported,
    read_tree,
    start,
    sweep_name,
)
from sweeper.space import Facts, Settings, write_named

__all__ = ["import_file", "start_file", "write_import"]

_NAME_CHARACTERS = 60


def start_file(model: str, data: str, *, method: Method | None = None) -> Start:
    """A space file for this model and these rows, with what was found and what is assumed.

    Trains nothing and imports no torch; a large JSONL or Parquet file is looked at by a sample.

    Args:
        model: a folder, a ``.gguf`` file or a hub id, as ``model_path`` has it.
        data: a file, glob, folder or hub id, as ``data_path`` has it.
        method: None: as the memory of one device suggests.

    Raises UserError: with all that is wrong with model and data.
    """
    name = sweep_name(f"{_stem(model)}-{_stem(data)}"[:_NAME_CHARACTERS])
    look = first_look(Settings(name=name, model_path=model, data_path=data))
    known = Beginning(
        name=name,
        model=model,
        data=data,
        look=look,
        memory_gib=_memory_gib(look.facts),
        past=_past(),
        method=method,
    )
    return start(known)


def _stem(path: str) -> str:
    """The last part of a path, a hub id or ``builtin:quickstart``; a pattern's without its signs."""
    return Path(path.rstrip("/").replace(":", "/")).name.split(".")[0].replace("*", "") or "rows"


def _memory_gib(facts: Facts) -> float | None:
    """Of the smallest GPU, or of the host where there is none; None where nobody tells."""
    if facts.accelerator == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    from sweeper.ray_tune.free_gpus import read_gpus

    try:
        return min((gpu.total_gib for gpu in read_gpus()), default=None)
    except UserError:  # no nvidia-smi
        return None


def _past() -> list[SweepOfHistory]:
    """What the user's history holds; a history that cannot be read is no reason to stop."""
    path = history_path(None)
    try:
        return [] if path is None else HistoryFile(path).sweeps()
    except UserError:
        return []


def import_file(files: Sequence[Path], *, fmt: str | None = None) -> Imported:
    """A space file of what another trainer's file says; of Axolotl's two, the second is its sweep file.

    Raises UserError: a file of an unknown kind, or values of a wrong type, all of them at once.
    """
    if fmt is not None and fmt not in IMPORT_FORMATS:
        raise UserError.of(
            where="--format",
            value=fmt,
            rule="is not a format that can be read",
            remedy=f"choose {' or '.join(IMPORT_FORMATS)}",
        )
    file, *more = files
    tree = read_tree(file, fmt)
    consumer = consumer_of(tree, fmt, file)
    if more and (consumer.name != "axolotl" or len(more) > 1):
        raise UserError.of(
            where="--from",
            value=str(more[-1]),
            rule=f"{file} is of {consumer.title}, and only Axolotl has a file beside it, for its --sweep",
            remedy="give one file, or Axolotl's configuration and its sweep file",
        )
    sweep = read_tree(more[0], fmt) if more else None
    return imported(tree, consumer, name=file.stem, where=str(file), sweep=sweep)


def write_import(found: Imported | Start, path: Path) -> None:
    """Writes the space file, and never over one that is there. Raises UserError."""
    if path.exists():
        rule, remedy = "is there already", "name another file by -o, or remove it"
        raise UserError.of(where=str(path), value="", rule=rule, remedy=remedy)
    write_named(path, found.text, "-o")
