"""The rows of a sweep as conversations, split into what is trained on and what is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.problems import Problems
from sweeper.data.read.files import sources_of
from sweeper.data.read.formats import Example, conversations
from sweeper.data.read.messages import KNOWN_KEYS
from sweeper.data.read.read import read_rows
from sweeper.errors import DataError
from sweeper.space import DataSource, Settings, times_seen

__all__ = [
    "SPLIT_SEED",
    "Choice",
    "Examples",
    "choose",
    "digest",
    "examples_of",
    "held_out_sources",
    "load_examples",
    "load_rows",
    "times_of",
    "unknown_keys",
]

Indices = npt.NDArray[np.int64]

_SAID = ("role", "content", "reasoning_content", "tool_calls")

SPLIT_SEED = 20250
"""Seed of the held-out rows: one constant, so that sweeps with other search seeds hold out the same
rows of the same data and their losses compare."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What is trained on and what is held out, before tokenization."""

    train: list[Example]
    times: Indices
    """Shape (len(train),): how often an epoch sees each, at least once."""
    eval: list[Example]
    counts: dict[str, int]
    """``rows_read``; ``rows_bad`` of them, left out; ``rows_without_answer``, left out; ``rows_leaked``:
    training rows equal to a held-out row, left out; ``rows_left_out_by_weight``; ``rows_repeated``: how
    many more an epoch sees than there are, by weights above 1. A row of several instances is read once
    and counts as several in the others."""
    source_rows: tuple[int, ...] = ()
    """Training rows of each source, before weights."""
    notes: tuple[str, ...] = ()
    """How columns were read, and which fields of rows are not used."""
    message_keys: tuple[str, ...] = ()
    """Keys of messages that only a chat template may know."""

    @property
    def train_rows(self) -> int:
        """Rows of one epoch, repeats counted."""
        return int(self.times.sum())


def load_examples(settings: Settings, problems: Problems | None = None) -> Examples:
    """Reads, recognises, splits and weighs the rows. Needs no tokenizer.

    Args:
        settings: which rows, and what becomes of broken ones.
        problems: where broken rows are noted; they go on counting against ``max_bad_rows`` there.

    Raises: DataError with all problems of the training and the held-out files.
    """
    problems = problems if problems is not None else Problems(settings.max_bad_rows)
    notes: dict[str, None] = {}
    rows, rows_read = _read(settings.sources, problems, notes)
    held_out, held_out_read = _read(held_out_sources(settings), problems, notes)
    problems.raise_if_any()
    counts = {"rows_read": rows_read + held_out_read, "rows_bad": problems.bad_rows}
    return examples_of(rows, held_out, settings, counts, tuple(notes))


def examples_of(
    rows: Sequence[Example],
    held_out: Sequence[Example],
    settings: Settings,
    counts: dict[str, int],
    notes: tuple[str, ...],
) -> Examples:
    """Splits and weighs what was read; ``held_out`` are those of a file. Raises what ``choose`` raises."""
    every = [*rows, *held_out]
    chosen = choose(
        answered=np.asarray([one.has_answer for one in every], dtype=bool),
        said=[digest(one) for one in every],
        owners=np.asarray([one.source for one in every], dtype=np.int64),
        given=len(rows),
        settings=settings,
    )
    train, held_out = ([every[i] for i in indices] for indices in (chosen.train, chosen.eval))
    return Examples(
        train=train,
        times=chosen.times,
        eval=held_out,
        counts=counts | chosen.counts,
        source_rows=chosen.source_rows,
        notes=notes,
        message_keys=tuple(sorted({key for one in (*train, *held_out) for key in unknown_keys(one)})),
    )


def load_rows(settings: Settings, path: str) -> list[Example]:
    """The rows of another file that have an answer, whatever format they are in.

    Raises: DataError with all of its problems.
    """
    problems = Problems(settings.max_bad_rows)
    rows, _ = _read((DataSource(path=path),), problems, {})
    problems.raise_if_any()
    answered = [example for example in rows if example.has_answer]
    _require(len(answered), path)
    return answered


def held_out_sources(settings: Settings) -> tuple[DataSource, ...]:
    """None where a fraction is held out. Its columns are those of the training rows, where all of them are
    named alike."""
    if not isinstance(settings.eval_data, str):
        return ()
    columns, *others = [source.columns for source in settings.sources]
    alike = columns if all(other == columns for other in others) else None
    return (DataSource(path=settings.eval_data, format=settings.data_format, columns=alike),)


def unknown_keys(example: Example) -> set[str]:
    """Keys of its messages that only a chat template may know."""
    return {key for message in example.messages for key in message} - KNOWN_KEYS


def _read(
    sources: tuple[DataSource, ...], problems: Problems, notes: dict[str, None]
) -> tuple[list[Example], int]:
    """What the sources teach, and how many rows they hold, broken ones counted."""
    examples: list[Example] = []
    rows_read = 0
    found = sources_of([source.path for source in sources], problems)
    for index, (source, files) in enumerate(zip(sources, found, strict=True)):
        for file in files:
            before = problems.bad_rows
            rows = read_rows(file, problems)
            rows_read += len(rows) + problems.bad_rows - before
            examples += conversations(rows, source.format, problems, index, source.columns, notes)
    return examples, rows_read


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of all examples are trained on, and which are held out; by their indices, ascending."""

    train: Indices
    times: Indices
    """Shape (len(train),): how often an epoch sees each, at least once."""
    eval: Indices
    counts: dict[str, int]
    """The others of ``Examples``."""
    source_rows: tuple[int, ...]


def choose(
    *,
    answered: npt.NDArray[np.bool_],
    said: Sequence[bytes],
    owners: Indices,
    given: int,
    settings: Settings,
) -> Choice:
    """Splits and weighs n examples.

    Args:
        answered: shape (n,): whether there is anything to learn.
        said: the ``digest`` of each.
        owners: shape (n,): the source of each.
        given: so many at the beginning are those to train on; the others are a file's that is held out.

    Raises: DataError where one of the splits would be empty.
    """
    name = ", ".join(source.path for source in settings.sources)
    is_file = isinstance(settings.eval_data, str)
    train, held_out = (np.flatnonzero(answered[part]) for part in (slice(given), slice(given, None)))
    held_out += given
    if is_file:
        _require(len(held_out), str(settings.eval_data))
    _require(len(train), name)
    if not isinstance(settings.eval_data, str):
        is_out = _held_out(len(train), settings.eval_data, name)
        train, held_out = train[~is_out], train[is_out]
    kept = _without_leaks(train, held_out, said)
    if not len(kept):
        raise DataError.of(
            where=name,
            value=f"{len(train)} training rows",
            rule="every training row equals a held-out row",
            remedy="hold out other rows than those trained on",
        )
    weights = [source.weight for source in settings.sources]
    of_kept = owners[kept]
    times = times_of(of_kept, weights)
    if not times.any():
        raise DataError.of(
            where=name,
            value="weight: 0",
            rule="every source that has training rows has the weight 0",
            remedy="give one of them a weight above 0",
        )
    return Choice(
        train=kept[times > 0],
        times=times[times > 0],
        eval=held_out,
        counts={
            "rows_without_answer": int((~answered).sum()),
            "rows_leaked": len(train) - len(kept),
            "rows_left_out_by_weight": int((times == 0).sum()),
            "rows_repeated": int(np.maximum(times - 1, 0).sum()),
        },
        source_rows=tuple(int((of_kept == index).sum()) for index in range(len(weights))),
    )


def times_of(owners: Indices, weights: Sequence[float]) -> Indices:
    """How often an epoch sees each row, from the source of each, both of shape (rows,): a source of n rows
    and weight w is seen ``round(w * n)`` times, at least once unless its weight is 0; what that is more than
    whole rounds is a seeded choice of its rows."""
    times = np.ones(len(owners), dtype=np.int64)
    for index, weight in enumerate(weights):
        members = np.flatnonzero(owners == index)
        if weight == 1 or not len(members):
            continue
        rounds, more = divmod(times_seen(len(members), weight), len(members))
        chosen = np.random.RandomState(SPLIT_SEED).permutation(len(members))[:more]
        times[members] = rounds
        times[members[chosen]] += 1
    return times


def _held_out(rows: int, fraction: float, name: str) -> npt.NDArray[np.bool_]:
    """Shape (rows,): the fraction that a seeded permutation puts first, at least one and never all.

    ``RandomState`` because NumPy promises that its streams never change; those of ``Generator`` may.
    """
    if rows < 2:
        raise DataError.of(
            where=name,
            value="1 row",
            rule="at least two rows are needed: one to train on, one held out",
            remedy="give more rows, or a path to held-out rows as eval_data",
        )
    size = min(max(round(rows * fraction), 1), rows - 1)
    chosen = np.zeros(rows, dtype=bool)
    chosen[np.random.RandomState(SPLIT_SEED).permutation(rows)[:size]] = True
    return chosen


def _require(rows: int, name: str) -> None:
    if not rows:
        raise DataError.of(
            where=name,
            value="",
            rule="no row has anything that an assistant says",
            remedy="give rows with a completion",
        )


def _without_leaks(train: Indices, held_out: Indices, said: Sequence[bytes]) -> Indices:
    """The training rows that equal no held-out row: a copy would flatter every trial."""
    known = {said[index] for index in held_out}
    kept: Indices = train[np.fromiter((said[index] not in known for index in train), bool, len(train))]
    return kept


def digest(example: Example) -> bytes:
    """What is said: neither its weight nor an id makes a copy another row."""
    messages = [[message.get(key) for key in _SAID] for message in example.messages]
    said = json.dumps([messages, example.tools, example.text])
    return hashlib.blake2b(said.encode("utf-8"), digest_size=16).digest()
