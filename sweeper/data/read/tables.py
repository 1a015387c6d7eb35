"""Rows of Parquet files and of what the library ``datasets`` loads. Both are imported when needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.data.problems import Problems
from sweeper.data.read.files import Source

__all__ = ["Row", "dataset_rows", "parquet_rows"]

_SPLIT = "train"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read."""

    fields: dict[str, Any]
    source: str
    """The file, folder or hub id."""
    place: str
    """Where in the source: a line number, or ``item 3`` of an array."""

    @property
    def where(self) -> str:
        return f"{self.source}:{self.place}"


def parquet_rows(source: Source, path: Path, problems: Problems) -> Iterator[Row]:
    """Every row of a Parquet file."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        records = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    except (pyarrow.ArrowException, ValueError, OSError, OverflowError, TypeError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the system's: the file is away, or not for this person
        problems.add(
            where=source.name,
            value="",
            rule=f"it is not a readable Parquet file: {' '.join(str(error).split())[:600]}",
            remedy="write it again, or give the file the extension of what it is",
        )
        return
    for number, fields in enumerate(records, start=1):
        yield Row(fields, source.name, f"row {number}")


def dataset_rows(source: Source, problems: Problems) -> Iterator[Row]:
    """The ``train`` split of a hub id, of a folder laid out like one, or of a saved data set.

    Code that comes with a data set is never run.
    """
    try:
        records = _saved(source) if source.layout == "saved" else _loaded(source)
    except Exception as error:  # whatever the library's loaders and the network raise
        at_hub = source.path is None
        problems.add(
            where=source.name,
            value="",
            rule=(
                "no such path here, and the hub gives no data set: " if at_hub else "it gives no data set: "
            )
            + f"{type(error).__name__}: {' '.join(str(error).split())[:600]}",
            remedy="check the path or the id, and the connection"
            if at_hub
            else f"name a file or a glob, e.g. {source.name}/**/*.jsonl",
        )
        return
    for number, fields in enumerate(records, start=1):
        yield Row(dict(fields), source.name, f"row {number}")


def _loaded(source: Source) -> Any:
    from datasets import load_dataset

    return load_dataset(str(source.path or source.name), split=_SPLIT)


def _saved(source: Source) -> Any:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(str(source.path))
    return loaded[_SPLIT] if isinstance(loaded, DatasetDict) else loaded
