"""The rows of a sweep as conversations, split into what is trained on and what is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sweeper.data.formats import Example, conversations
from sweeper.data.problems import Problems
from sweeper.data.read import Row, read_rows
from sweeper.errors import DataError
from sweeper.spec import Settings

__all__ = ["SPLIT_SEED", "Examples", "load_examples"]

SPLIT_SEED = 20250
"""Seed of the held-out rows: one constant, so that sweeps with other search seeds hold out the same
rows of the same data and their losses compare."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What is trained on and what is held out, before tokenization."""

    train: list[Example]
    eval: list[Example]
    counts: dict[str, int]
    """``rows_read``, ``rows_without_answer`` (left out), ``rows_leaked`` (training rows equal to a
    held-out row, left out)."""


def load_examples(settings: Settings) -> Examples:
    """Reads, recognises and splits the rows. Needs no tokenizer.

    Raises: DataError with all problems of the training and the held-out files.
    """
    problems = Problems()
    train_rows = read_rows(settings.data_path, problems)
    train = conversations(train_rows, settings.data_format, problems)
    eval_rows: list[Row] = []
    held_out: list[Example] | None = None
    if isinstance(settings.eval_data, str):
        eval_rows = read_rows(settings.eval_data, problems)
        held_out = conversations(eval_rows, settings.data_format, problems)
    problems.raise_if_any()
    return _split(train, held_out, settings, rows_read=len(train_rows) + len(eval_rows))


def _split(
    rows: list[Example], held_out: list[Example] | None, settings: Settings, *, rows_read: int
) -> Examples:
    train = [example for example in rows if example.has_answer]
    without_answer = len(rows) - len(train)
    if held_out is None:
        assert not isinstance(settings.eval_data, str)
        train, held_out = _hold_out(train, settings.eval_data, settings.data_path)
    else:
        without_answer += sum(not example.has_answer for example in held_out)
        held_out = [example for example in held_out if example.has_answer]
        _require(held_out, settings.eval_data)
    _require(train, settings.data_path)
    kept = _without_leaks(train, held_out)
    if not kept:
        raise DataError.of(
            where=_name(settings.data_path),
            value=f"{len(train)} training rows",
            rule="every training row equals a held-out row",
            remedy="hold out other rows than those trained on",
        )
    counts = {
        "rows_read": rows_read,
        "rows_without_answer": without_answer,
        "rows_leaked": len(train) - len(kept),
    }
    return Examples(train=kept, eval=held_out, counts=counts)


def _hold_out(
    rows: list[Example], fraction: float, data_path: str | tuple[str, ...]
) -> tuple[list[Example], list[Example]]:
    """The fraction of the rows that a seeded permutation puts first, at least one and never all.

    ``RandomState`` because NumPy promises that its streams never change; those of ``Generator`` may.
    """
    _require(rows, data_path)
    if len(rows) < 2:
        raise DataError.of(
            where=_name(data_path),
            value="1 row",
            rule="at least two rows are needed: one to train on, one held out",
            remedy="give more rows, or a path to held-out rows as eval_data",
        )
    size = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[np.random.RandomState(SPLIT_SEED).permutation(len(rows))[:size]] = True
    train = [row for row, out in zip(rows, chosen, strict=True) if not out]
    held_out = [row for row, out in zip(rows, chosen, strict=True) if out]
    return train, held_out


def _require(rows: list[Example], data_path: object) -> None:
    if not rows:
        raise DataError.of(
            where=_name(data_path),
            value="",
            rule="no row has anything that an assistant says",
            remedy="give rows with a completion",
        )


def _without_leaks(train: list[Example], held_out: Iterable[Example]) -> list[Example]:
    """The training rows that equal no held-out row: a copy would flatter every trial."""
    known = {_digest(example) for example in held_out}
    return [example for example in train if _digest(example) not in known]


def _digest(example: Example) -> bytes:
    text = json.dumps([(message["role"], message["content"]) for message in example.messages])
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def _name(data_path: object) -> str:
    return ", ".join(map(str, data_path)) if isinstance(data_path, tuple) else str(data_path)
