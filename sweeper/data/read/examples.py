"""The rows of a sweep as conversations, split into what is trained on and what is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sweeper.data.problems import Problems
from sweeper.data.read.files import sources_of
from sweeper.data.read.formats import Example, conversations
from sweeper.data.read.messages import KNOWN_KEYS
from sweeper.data.read.read import read_rows
from sweeper.errors import DataError
from sweeper.space import DataSource, Settings, times_seen

__all__ = ["SPLIT_SEED", "Examples", "load_examples", "load_rows", "times_of"]

_SAID = ("role", "content", "reasoning_content", "tool_calls")

SPLIT_SEED = 20250
"""Seed of the held-out rows: one constant, so that sweeps with other search seeds hold out the same
rows of the same data and their losses compare."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What is trained on and what is held out, before tokenization."""

    train: list[Example]
    times: npt.NDArray[np.int64]
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
    held_out, held_out_read = _read(_held_out_sources(settings), problems, notes)
    problems.raise_if_any()
    counts = {"rows_read": rows_read + held_out_read, "rows_bad": problems.bad_rows}
    found = _split(rows, held_out, settings, counts)
    return replace(found, notes=tuple(notes), message_keys=_unknown_keys([*found.train, *found.eval]))


def load_rows(settings: Settings, path: str) -> list[Example]:
    """The rows of another file that have an answer, whatever format they are in.

    Raises: DataError with all of its problems.
    """
    problems = Problems(settings.max_bad_rows)
    rows, _ = _read((DataSource(path=path),), problems, {})
    problems.raise_if_any()
    answered = [example for example in rows if example.has_answer]
    _require(answered, path)
    return answered


def _held_out_sources(settings: Settings) -> tuple[DataSource, ...]:
    """None where a fraction is held out. Its columns are those of the training rows, where all of them are
    named alike."""
    if not isinstance(settings.eval_data, str):
        return ()
    columns, *others = [source.columns for source in settings.sources]
    alike = columns if all(other == columns for other in others) else None
    return (DataSource(path=settings.eval_data, format=settings.data_format, columns=alike),)


def _unknown_keys(examples: Iterable[Example]) -> tuple[str, ...]:
    found = {key for example in examples for message in example.messages for key in message}
    return tuple(sorted(found - KNOWN_KEYS))


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


def _split(
    rows: list[Example], held_out: list[Example], settings: Settings, counts: dict[str, int]
) -> Examples:
    name = ", ".join(source.path for source in settings.sources)
    train = [example for example in rows if example.has_answer]
    if isinstance(settings.eval_data, str):
        answered = [example for example in held_out if example.has_answer]
        _require(answered, settings.eval_data)
        _require(train, name)
    else:
        _require(train, name)
        train, answered = _hold_out(train, settings.eval_data, name)
    kept = _without_leaks(train, answered)
    if not kept:
        raise DataError.of(
            where=name,
            value=f"{len(train)} training rows",
            rule="every training row equals a held-out row",
            remedy="hold out other rows than those trained on",
        )
    weights = [source.weight for source in settings.sources]
    owners = np.asarray([row.source for row in kept], dtype=np.int64)
    times = times_of(owners, weights)
    if not times.any():
        raise DataError.of(
            where=name,
            value="weight: 0",
            rule="every source that has training rows has the weight 0",
            remedy="give one of them a weight above 0",
        )
    counts |= {
        "rows_without_answer": sum(not example.has_answer for example in (*rows, *held_out)),
        "rows_leaked": len(train) - len(kept),
        "rows_left_out_by_weight": int((times == 0).sum()),
        "rows_repeated": int(np.maximum(times - 1, 0).sum()),
    }
    seen = [example for example, count in zip(kept, times, strict=True) if count]
    return Examples(
        train=seen,
        times=times[times > 0],
        eval=answered,
        counts=counts,
        source_rows=tuple(int((owners == index).sum()) for index in range(len(weights))),
    )


def times_of(owners: npt.NDArray[np.int64], weights: Sequence[float]) -> npt.NDArray[np.int64]:
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


def _hold_out(rows: list[Example], fraction: float, name: str) -> tuple[list[Example], list[Example]]:
    """The fraction of the rows that a seeded permutation puts first, at least one and never all.

    ``RandomState`` because NumPy promises that its streams never change; those of ``Generator`` may.
    """
    if len(rows) < 2:
        raise DataError.of(
            where=name,
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


def _require(rows: list[Example], name: str) -> None:
    if not rows:
        raise DataError.of(
            where=name,
            value="",
            rule="no row has anything that an assistant says",
            remedy="give rows with a completion",
        )


def _without_leaks(train: list[Example], held_out: Iterable[Example]) -> list[Example]:
    """The training rows that equal no held-out row: a copy would flatter every trial."""
    known = {_digest(example) for example in held_out}
    return [example for example in train if _digest(example) not in known]


def _digest(example: Example) -> bytes:
    """What is said: neither its weight nor an id makes a copy another row."""
    messages = [[message.get(key) for key in _SAID] for message in example.messages]
    said = json.dumps([messages, example.tools, example.text])
    return hashlib.blake2b(said.encode("utf-8"), digest_size=16).digest()
