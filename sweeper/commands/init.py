"""A space file from the file of another trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeper.errors import UserError
from sweeper.recommend.imports import IMPORT_FORMATS, Imported, consumer_of, imported, read_tree
from sweeper.space import write_whole

__all__ = ["import_file", "write_import"]


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
    tree = read_tree(file)
    consumer = consumer_of(tree, fmt, file)
    if more and (consumer.name != "axolotl" or len(more) > 1):
        raise UserError.of(
            where="--from",
            value=str(more[-1]),
            rule=f"{file} is of {consumer.title}, and only Axolotl has a file beside it, for its --sweep",
            remedy="give one file, or Axolotl's configuration and its sweep file",
        )
    sweep = read_tree(more[0]) if more else None
    return imported(tree, consumer, name=file.stem, where=str(file), sweep=sweep)


def write_import(found: Imported, path: Path) -> None:
    """Writes the space file, and never over one that is there. Raises UserError."""
    if path.exists():
        rule, remedy = "is there already", "name another file by -o, or remove it"
        raise UserError.of(where=str(path), value="", rule=rule, remedy=remedy)
    try:
        write_whole(path, found.text)
    except OSError as error:
        raise UserError.of(
            where=str(path),
            value="",
            rule=f"cannot be written: {error.strerror or error}",
            remedy="name a file in a folder of yours by -o",
        ) from error
