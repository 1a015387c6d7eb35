"""Rows that were made before, beside those of now: whether they are the same, and in what they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["RowArrays", "Rows", "StoredRows", "content_hash", "difference", "made_beside", "stored_rows"]


class RowArrays(Protocol):
    """What the rows of a split are, in every version; see TokenizedSplit."""

    @property
    def ids(self) -> npt.NDArray[np.int32]: ...

    @property
    def mask(self) -> npt.NDArray[np.bool_]: ...

    @property
    def starts(self) -> npt.NDArray[np.int64]: ...


class Rows(Protocol):
    """Tokenized rows: TokenizedData, or those of another version."""

    @property
    def train(self) -> RowArrays: ...

    @property
    def eval(self) -> RowArrays: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def content(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class _Arrays:
    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """The rows of a cache that any version made; nothing else of it is read."""

    train: RowArrays
    eval: RowArrays
    fingerprint: str
    """Of what they were made from, by the version that made them."""
    content: str


def stored_rows(folder: Path) -> StoredRows | None:
    """None where the folder holds none."""
    try:
        train, eval = (
            _Arrays(
                **{
                    array: np.load(folder / f"{split}.{array}.npy", mmap_mode="r", allow_pickle=False)
                    for array in ("ids", "mask", "starts")
                }
            )
            for split in ("train", "eval")
        )
    except (OSError, ValueError):
        return None
    return StoredRows(train=train, eval=eval, fingerprint=folder.name, content=content_hash(train, eval))


def made_beside(folder: Path) -> Iterator[StoredRows]:
    """The rows in the other folders beside one: made by another version of this package or of its libraries,
    of other files, or cut to another length."""
    for other in sorted(folder.parent.iterdir()):
        if other != folder and (rows := stored_rows(other)) is not None:
            yield rows


def content_hash(train: RowArrays, eval: RowArrays) -> str:
    """Equal for equal rows in equal order: their token ids, and which of them carry loss."""
    digest = hashlib.sha256()
    for split in (train, eval):
        for array in (split.starts, split.ids, split.mask):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def difference(before: Rows, now: Rows) -> str:
    """How many rows differ, and in what, as a part of a sentence; empty where none does."""
    splits = {"training": (before.train, now.train), "held-out": (before.eval, now.eval)}
    return "; ".join(told for name, pair in splits.items() if (told := _of_split(name, *pair)))


def _of_split(name: str, before: RowArrays, now: RowArrays) -> str:
    rows_before, rows = len(before.starts) - 1, len(now.starts) - 1
    if rows_before != rows:
        return f"{rows:,} {name} rows where there were {rows_before:,}"
    tokens, loss = 0, 0
    for index in range(rows):
        then, today = (slice(*split.starts[index : index + 2]) for split in (before, now))
        if not np.array_equal(before.ids[then], now.ids[today]):
            tokens += 1
        elif not np.array_equal(before.mask[then], now.mask[today]):
            loss += 1
    counted = {"have other tokens": tokens, "carry loss on other tokens": loss}
    told = [f"{count:,} {words}" for words, count in counted.items() if count]
    return f"of {rows:,} {name} rows {' and '.join(told)}" if told else ""
