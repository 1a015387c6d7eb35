"""Tokenized rows on disk: plain arrays that every trial maps into memory and none copies.

A cache is a folder that appears whole, by one rename, and is never changed afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.data.render import TokenRow
from sweeper.errors import DataError

__all__ = ["TokenizedData", "TokenizedSplit", "write_cache"]

_META = "meta.json"
_ARRAYS = ("ids", "mask", "starts", "completion_tokens")


@dataclass(frozen=True, kw_only=True)
class TokenizedSplit:
    """The rows of one split, one after another in flat arrays."""

    ids: npt.NDArray[np.int32]
    """Shape (tokens,)."""
    mask: npt.NDArray[np.bool_]
    """Shape (tokens,): carries loss; never the first token of a row."""
    starts: npt.NDArray[np.int64]
    """Shape (rows + 1,): row i is ``starts[i]`` to ``starts[i + 1]``."""
    completion_tokens: npt.NDArray[np.int64]
    """Shape (rows,): tokens that carry loss, at least 1 in each row."""

    @property
    def rows(self) -> int:
        return len(self.completion_tokens)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Shape (rows,): tokens of each row."""
        return np.diff(self.starts)

    def row(self, index: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Token ids and loss mask of one row, both of shape (T,); views, not copies.

        Raises: IndexError where there is no such row.
        """
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of {self.rows}")
        start, end = int(self.starts[index]), int(self.starts[index + 1])
        return self.ids[start:end], self.mask[start:end]

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenizedSplit:
        """The split that holds these rows, in memory. There must be at least one."""
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row.ids) for row in rows], out=starts[1:])
        return cls(
            ids=np.concatenate([row.ids for row in rows]).astype(np.int32, copy=False),
            mask=np.concatenate([row.mask for row in rows]).astype(bool, copy=False),
            starts=starts,
            completion_tokens=np.asarray([row.mask.sum() for row in rows], dtype=np.int64),
        )

    def save(self, folder: Path, name: str) -> None:
        """Writes each array as ``<name>.<array>.npy``."""
        for array in _ARRAYS:
            np.save(folder / f"{name}.{array}.npy", getattr(self, array), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path, name: str) -> TokenizedSplit:
        """Maps the arrays that ``save`` wrote, read-only."""
        maps = {
            array: np.load(folder / f"{name}.{array}.npy", mmap_mode="r", allow_pickle=False)
            for array in _ARRAYS
        }
        return cls(**maps)


@dataclass(frozen=True, kw_only=True)
class TokenizedData:
    """What a trial trains on and is measured on."""

    train: TokenizedSplit
    eval: TokenizedSplit
    fingerprint: str
    """Changes with the rows, the tokenizer, its template, max_seq_len, the format and the split."""
    pad_id: int
    counts: dict[str, int]
    """What became of the rows: ``rows_read``, ``rows_without_answer``, ``rows_leaked``,
    ``train_rows``, ``train_truncated``, ``train_dropped``, ``train_tokens``,
    ``train_completion_tokens``, and the same for ``eval_``."""
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> TokenizedData:
        """Maps a cache that ``prepare`` made. Safe from many processes at once.

        Raises: DataError where the folder is not a whole cache.
        """
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            return cls(
                train=TokenizedSplit.open(folder, "train"),
                eval=TokenizedSplit.open(folder, "eval"),
                fingerprint=meta["fingerprint"],
                pad_id=meta["pad_id"],
                counts=meta["counts"],
                folder=folder,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError.of(
                where=str(folder),
                value="",
                rule=f"the folder is not a whole cache of tokenized rows: {error}",
                remedy="delete the folder; it is made again",
            ) from error


def write_cache(
    folder: Path,
    *,
    train: TokenizedSplit,
    eval: TokenizedSplit,
    fingerprint: str,
    pad_id: int,
    counts: dict[str, int],
) -> None:
    """Makes the folder in one step; when another process was faster, its (equal) folder stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name[:12]}-", dir=folder.parent))
    try:
        train.save(partial, "train")
        eval.save(partial, "eval")
        meta: dict[str, Any] = {"fingerprint": fingerprint, "pad_id": pad_id, "counts": counts}
        (partial / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        partial.chmod(0o777 & ~_umask())
        _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        # The system refuses to rename onto a folder that holds something.
        if not (folder / _META).is_file():
            raise


def _umask() -> int:
    """``mkdtemp`` makes a folder for its owner only; a team's shared folder needs the usual rights."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
