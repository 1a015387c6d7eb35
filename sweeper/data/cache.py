"""Tokenized rows on disk: plain arrays that every trial maps into memory and none copies.

A cache is a folder that appears whole, by one rename, and is never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from sweeper.data.render.tokens import TokenRow
from sweeper.data.render.tools import ADAPTATIONS
from sweeper.errors import DataError, Problem

__all__ = [
    "LongSplit",
    "Rows",
    "TokenizedData",
    "TokenizedSplit",
    "adapted_count",
    "difference",
    "made_beside",
    "stored_rows",
    "write_cache",
]

_META = "meta.json"
_BAD_ROWS = "bad_rows.txt"
_BLOCK_BYTES = 2**22
_ARRAYS = ("ids", "mask", "starts", "completion_tokens")


class Saved(Protocol):
    """Something that lies beside the rows."""

    def save(self, folder: Path) -> None:
        """Writes its files into the folder."""


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

    def take(self, indices: npt.NDArray[np.int64]) -> TokenizedSplit:
        """These rows in this order, in memory; a row may come several times."""
        lengths = self.lengths[indices]
        starts = np.zeros(len(indices) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        places = np.repeat(self.starts[indices] - starts[:-1], lengths) + np.arange(starts[-1])
        return TokenizedSplit(
            ids=self.ids[places],
            mask=self.mask[places],
            starts=starts,
            completion_tokens=self.completion_tokens[indices],
        )

    def save(self, folder: Path, name: str) -> None:
        """Writes each array as ``<name>.<array>.npy``."""
        for array in _ARRAYS:
            np.save(_file(folder, name, array), getattr(self, array), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path, name: str) -> TokenizedSplit:
        """Maps the arrays that ``save`` wrote, read-only."""
        maps = {
            array: np.load(_file(folder, name, array), mmap_mode="r", allow_pickle=False) for array in _ARRAYS
        }
        return cls(**maps)


@dataclass(frozen=True, kw_only=True)
class LongSplit:
    """A split that is written without ever being in memory as a whole."""

    lengths: npt.NDArray[np.int64]
    """Shape (rows,): tokens of each."""
    completion_tokens: npt.NDArray[np.int64]
    """Shape (rows,): those of them that carry loss."""
    stretches: Callable[[], Iterator[TokenizedSplit]]
    """Some neighbouring rows after the others."""

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    def save(self, folder: Path, name: str) -> None:
        """Writes what ``TokenizedSplit.save`` writes."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        for array, values in (("starts", starts), ("completion_tokens", self.completion_tokens)):
            np.save(_file(folder, name, array), values, allow_pickle=False)
        with _file(folder, name, "ids").open("wb") as ids, _file(folder, name, "mask").open("wb") as mask:
            for file, kind in ((ids, np.int32), (mask, np.bool_)):
                header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype=kind))
                np.lib.format.write_array_header_1_0(file, header | {"shape": (self.tokens,)})
            for stretch in self.stretches():
                ids.write(np.ascontiguousarray(stretch.ids).data)
                mask.write(np.ascontiguousarray(stretch.mask).data)


def _file(folder: Path, name: str, array: str) -> Path:
    return folder / f"{name}.{array}.npy"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a cache that any version made."""

    train: TokenizedSplit
    eval: TokenizedSplit
    fingerprint: str
    """Changes with the rows, their weights and formats, the tokenizer, the chat template, the split,
    max_seq_len, and with what becomes of overlong and broken rows; and with the versions of this package
    and its libraries that could make other rows of them."""
    content: str
    """Hash of the rows themselves: their token ids, and which of them carry loss."""


@dataclass(frozen=True, kw_only=True)
class TokenizedData(Rows):
    """What a trial trains on and is measured on."""

    pad_id: int
    max_seq_len: int
    """No row has more tokens."""
    counts: dict[str, int]
    """What became of the rows: those of ``Examples``, then ``rows_with_`` each of ``ADAPTATIONS``,
    ``rows_in_several_sequences``, ``repeated_tokens`` (read again for that) and, each also for ``eval_``:
    ``train_truncated`` (cut to ``max_seq_len``), ``train_overlong_dropped`` (left out for their length),
    ``train_dropped`` (no completion within ``max_seq_len``); and of what is left, repeats counted:
    ``train_rows``, ``train_tokens``, ``train_completion_tokens``."""
    notes: tuple[str, ...]
    """What is allowed and still worth knowing."""
    folder: Path

    @property
    def bad_rows_file(self) -> Path:
        """Names the first of the rows that were left out as broken; there only where some were."""
        return self.folder / _BAD_ROWS

    def summary(self) -> str:
        """What became of the rows, in one line; what happened to none is not in it."""
        rows = f"{self.counts['train_rows']:,} rows trained on, {self.counts['eval_rows']:,} held out"
        told = [f"{count:,} {words}" for words, count in self._reasons().items() if count]
        return "; ".join([rows, *told])

    def _reasons(self) -> dict[str, int]:
        def both(name: str) -> int:
            return self.counts[f"train_{name}"] + self.counts[f"eval_{name}"]

        limit = f"{self.max_seq_len} tokens"
        return {
            f"cut to {limit}": both("truncated"),
            f"longer than {limit} left out": both("overlong_dropped"),
            f"without an answer within {limit} left out": both("dropped"),
            "without an answer left out": self.counts["rows_without_answer"],
            "equal to a held-out row left out": self.counts["rows_leaked"],
            "left out by weight": self.counts["rows_left_out_by_weight"],
            "repeated by weight": self.counts["rows_repeated"],
            **{words: self.counts[adapted_count(name)] for name, words in ADAPTATIONS.items()},
            "in one sequence for each answer": self.counts["rows_in_several_sequences"],
            "bad rows left out": self.counts["rows_bad"],
        }

    @classmethod
    def open(cls, folder: Path) -> TokenizedData:
        """Maps a cache that ``prepare`` made. Safe from many processes at once.

        Raises: DataError where the folder is not a whole cache.
        """
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            train, held_out = _open_splits(folder)
            return cls(
                train=train,
                eval=held_out,
                fingerprint=meta["fingerprint"],
                content=meta.get("content") or _content_hash(folder),
                pad_id=meta["pad_id"],
                max_seq_len=meta["max_seq_len"],
                counts=meta["counts"],
                notes=tuple(meta["notes"]),
                folder=folder,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError.of(
                where=str(folder),
                value="",
                rule=f"the folder is not a whole cache of tokenized rows: {error}",
                remedy="delete the folder; it is made again",
            ) from error


def adapted_count(name: str) -> str:
    """What the count of rows with one of ``ADAPTATIONS`` is called."""
    return f"rows_with_{name}"


def write_cache(
    folder: Path,
    *,
    train: TokenizedSplit | LongSplit,
    eval: TokenizedSplit | LongSplit,
    meta: dict[str, Any],
    bad_rows: Sequence[Problem] = (),
    origins: Saved | None = None,
) -> None:
    """Makes the folder in one step; when another process was faster, its (equal) folder stays.

    ``meta`` holds the other fields of ``TokenizedData`` but for the hash of its content; ``origins`` lie
    beside the rows.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name[:12]}-{uuid4().hex}")
    partial.mkdir()
    try:
        train.save(partial, "train")
        eval.save(partial, "eval")
        content = {"content": _content_hash(partial)}
        (partial / _META).write_text(json.dumps(meta | content, indent=1), encoding="utf-8")
        if origins is not None:
            origins.save(partial)
        if bad_rows:
            text = "".join(f"{problem}\n" for problem in bad_rows)
            (partial / _BAD_ROWS).write_text(text, encoding="utf-8")
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


def _open_splits(folder: Path) -> tuple[TokenizedSplit, TokenizedSplit]:
    return TokenizedSplit.open(folder, "train"), TokenizedSplit.open(folder, "eval")


def stored_rows(folder: Path) -> Rows | None:
    """The rows in a folder; nothing else of it is read. None where it holds none."""
    try:
        train, held_out = _open_splits(folder)
    except (OSError, ValueError):
        return None
    return Rows(train=train, eval=held_out, fingerprint=folder.name, content=_content_hash(folder))


def made_beside(folder: Path) -> Iterator[Rows]:
    """The rows in the other folders beside one: made by another version of this package or of its libraries,
    of other files, or cut to another length."""
    for other in sorted(folder.parent.iterdir()):
        if other != folder and (rows := stored_rows(other)) is not None:
            yield rows


def _content_hash(folder: Path) -> str:
    """Equal for equal rows in equal order: their token ids, and which of them carry loss. Read, not mapped:
    what is mapped and looked at counts as this process's memory."""
    digest = hashlib.sha256()
    for split in ("train", "eval"):
        for array in ("starts", "ids", "mask"):
            with _file(folder, split, array).open("rb") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
    return digest.hexdigest()[:32]


def difference(before: Rows, now: Rows) -> str:
    """How many rows differ, and in what, as a part of a sentence; empty where none does."""
    splits = {"training": (before.train, now.train), "held-out": (before.eval, now.eval)}
    return "; ".join(told for name, pair in splits.items() if (told := _of_split(name, *pair)))


def _of_split(name: str, before: TokenizedSplit, now: TokenizedSplit) -> str:
    rows_before, rows = before.rows, now.rows
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
