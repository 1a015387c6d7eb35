"""Pieces of the data as tokens. Each is made by whichever process is free and written whole, so that one that
is there need not be made again by a preparation that begins anew.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.data.cache import TokenizedSplit
from sweeper.data.problems import Problems, Unusable, shortened
from sweeper.data.read.examples import digest, unknown_keys
from sweeper.data.read.formats import Example, Reading
from sweeper.data.read.read import Piece
from sweeper.data.render.tokenizer import Tokenizer
from sweeper.data.render.tokens import TokenRow, tokenize_with
from sweeper.data.render.tools import ADAPTATIONS, Renderer
from sweeper.space import Config

__all__ = ["Maker", "Part", "Task", "Told"]

_SEQUENCE = np.dtype(
    [
        ("example", "<i8"),
        ("tokens", "<i8"),
        ("loss_tokens", "<i8"),
        ("highest", "<i4"),
        ("repeated", "<i8"),
        ("part", "<i4"),
        ("adapted", "<u1"),
        ("truncated", "?"),
    ]
)
"""What is known of a sequence beside its tokens: the index of its example in the piece, how many tokens it
has, the highest of their ids, and the fields of ``TokenRow``; a bit of ``adapted`` for each of
``ADAPTATIONS``."""


@dataclass(frozen=True)
class Task:
    """A piece to be made a part."""

    number: int
    """Of all pieces of the data."""
    piece: Piece
    reading: Reading | None
    """None where nobody knows how: its rows are read and no more."""
    owner: int
    """Index of the data source."""
    wanted: npt.NDArray[np.int64] | None = None
    """The examples to tokenize, by their indices in the piece; None: all that have an answer."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a part says of its piece."""

    rows: int
    """Those that were read, broken ones counted."""
    unused: frozenset[str]
    """Fields of rows."""
    message_keys: frozenset[str]
    """That only a chat template may know."""
    problems: Problems
    places: tuple[str, ...]
    """Of each example."""
    refused: tuple[tuple[int, Unusable], ...]
    """Examples that the chat template fails on, by their index in the piece, and why."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The examples of a piece."""

    answered: npt.NDArray[np.bool_]
    """Shape (examples,): whether there is anything to learn."""
    said: npt.NDArray[np.void]
    """Shape (examples,): the ``digest`` of each, 16 bytes."""
    told: Told
    sequences: npt.NDArray[np.void]
    """Shape (sequences,), by example: see ``_SEQUENCE``."""
    tokens: TokenizedSplit | None
    """The tokens of each sequence; None where there is none, or where they were not asked for."""

    def save(self, file: Path) -> None:
        """Writes it in one step."""
        arrays: dict[str, Any] = {"answered": self.answered, "said": self.said, "sequences": self.sequences}
        if self.tokens is not None:
            arrays |= vars(self.tokens)
        told = np.frombuffer(pickle.dumps(self.told), dtype=np.uint8)
        partial = file.with_name(f".{file.name}")
        with partial.open("wb") as opened:
            np.savez(opened, told=told, **arrays)
        partial.replace(file)

    @classmethod
    def open(cls, file: Path, *, with_tokens: bool = True) -> Part:
        """What ``save`` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            names = ("ids", "mask", "starts", "completion_tokens")
            has_tokens = with_tokens and "ids" in arrays
            return cls(
                answered=arrays["answered"],
                said=arrays["said"],
                told=pickle.loads(arrays["told"].tobytes()),
                sequences=arrays["sequences"],
                tokens=TokenizedSplit(**{name: arrays[name] for name in names}) if has_tokens else None,
            )


class Maker:
    """Makes parts with one tokenizer, for one configuration."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        self._renderer = Renderer(tokenizer, learn_template=config.learn_template_text)
        self._limit = config.training.max_seq_len

    def make(self, task: Task) -> Part:
        """A broken row is no error, but told in the part."""
        problems, unused = Problems(), set[str]()
        rows = list(task.piece.read(problems))
        count = len(rows) + problems.bad_rows
        examples: list[Example] = []
        if task.reading is not None:
            examples = task.reading.examples(rows, problems, task.owner, unused)
        del rows
        answered = np.asarray([one.has_answer for one in examples], dtype=bool)
        refused: list[tuple[int, Unusable]] = []

        def refuse(index: int, why: Unusable) -> None:
            short = Unusable(why.rule, why.remedy, shortened(why.value), why.where)
            refused.append((index, short))

        wanted = (np.flatnonzero(answered) if task.wanted is None else task.wanted).tolist()
        found = list(tokenize_with(self._renderer, examples, wanted, self._limit, refuse))
        return Part(
            answered=answered,
            said=np.frombuffer(b"".join(map(digest, examples)), dtype="V16"),
            told=Told(
                rows=count,
                unused=frozenset(unused),
                message_keys=frozenset().union(*map(unknown_keys, examples)),
                problems=problems,
                places=tuple(one.where for one in examples),
                refused=tuple(refused),
            ),
            sequences=_table(found),
            tokens=TokenizedSplit.of([row for _, row in found]) if found else None,
        )


def _table(found: Sequence[tuple[int, TokenRow]]) -> npt.NDArray[np.void]:
    table = np.zeros(len(found), dtype=_SEQUENCE)
    table["example"] = [index for index, _ in found]
    table["tokens"] = [len(row.ids) for _, row in found]
    table["loss_tokens"] = [np.count_nonzero(row.mask) for _, row in found]
    table["highest"] = [row.ids.max(initial=-1) for _, row in found]
    table["repeated"] = [row.repeated_tokens for _, row in found]
    table["part"] = [row.part for _, row in found]
    table["adapted"] = [_bits(row.adapted) for _, row in found]
    table["truncated"] = [row.truncated for _, row in found]
    return table


def _bits(adapted: Iterable[str]) -> int:
    return sum(1 << list(ADAPTATIONS).index(one) for one in adapted)
