"""All rows of a configuration as tokens, in parts on disk, and which of them go into which split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeper.data.parts import Maker, Part, Task
from sweeper.data.pool import count_cpus, in_processes
from sweeper.data.problems import Problems
from sweeper.data.read.examples import Choice, choose, held_out_sources
from sweeper.data.read.files import Source, extension, sources_of
from sweeper.data.read.formats import Reading, reading_of
from sweeper.data.read.parse import Row
from sweeper.data.read.read import Piece, note_empty, pieces
from sweeper.space import Config, DataSource

__all__ = ["Collected", "Progress", "collect"]

Progress = Callable[[int, float | None], object]
"""Is told how many rows are done, and which fraction of all that is; None where that is not known."""

_LOOKED_AT = 32
"""In so many pieces of a file there has to be a row by which its format is recognised."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The parts of a configuration's rows."""

    files: tuple[Path, ...]
    """Of the parts with tokens, in the order of the rows."""
    starts: npt.NDArray[np.int64]
    """Shape (parts,): the index of each one's first example."""
    choice: Choice
    owners: npt.NDArray[np.int64]
    """Shape (examples,): the source of each."""
    rows_read: int
    notes: tuple[str, ...]
    message_keys: tuple[str, ...]

    def parts(self, *, with_tokens: bool = True) -> Iterator[tuple[int, Part]]:
        """Each with the index of its first example."""
        for start, file in zip(self.starts.tolist(), self.files, strict=True):
            yield start, Part.open(file, with_tokens=with_tokens)


def collect(
    config: Config, maker: Maker, folder: Path, problems: Problems, progress: Progress = lambda *_: None
) -> Collected:
    """Makes the parts that are not in the folder yet, in as many processes as there are CPUs.

    Raises: DataError with the problems of all files, and where nothing is to be trained on or held out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = _files(config, problems)
    sizes = _Sizes.of(files)
    thinned = {index for index, source in enumerate(config.sources) if source.weight < 1}
    tasks = _tasks(files, thinned)
    for _, lines_bytes, rows in in_processes(partial(_made, maker, folder, ""), tasks, count_cpus()):
        progress(*sizes.add(lines_bytes, rows))
    parts = [_path(folder, number) for number in range(sum(len(file.numbers) for file in files))]
    table = _Table.of(files, parts, problems)
    problems.raise_if_any()
    given = sum(table.examples[number] for file in files if not file.is_held_out for number in file.numbers)
    owners = np.repeat(
        [file.owner for file in files for _ in file.numbers],
        [table.examples[number] for file in files for number in file.numbers],
    ).astype(np.int64)
    choice = choose(
        answered=np.concatenate(table.answered),
        said=[one for said in table.said for one in said.tolist()],
        owners=owners,
        given=int(given),
        settings=config,
    )
    starts = np.concatenate([[0], np.cumsum(table.examples)[:-1]]).astype(np.int64)
    if thinned:
        parts = _chosen_parts(files, thinned, maker, folder, parts, starts, choice)
    return Collected(
        files=tuple(parts),
        starts=starts,
        choice=choice,
        owners=owners,
        rows_read=table.rows,
        notes=tuple(dict.fromkeys(table.notes)),
        message_keys=tuple(sorted(table.message_keys)),
    )


@dataclass
class _File:
    """One file, folder or hub id."""

    source: Source
    data: DataSource
    owner: int
    is_held_out: bool
    problems: Problems = field(default_factory=Problems)
    """Of reading it, in this process."""
    reading: Reading | None = None
    numbers: range = range(0)
    """Of its pieces."""


def _files(config: Config, problems: Problems) -> list[_File]:
    held_out = held_out_sources(config)
    found: list[_File] = []
    for sources, is_held_out in ((config.sources, False), (held_out, True)):
        groups = sources_of([source.path for source in sources], problems)
        for owner, (source, group) in enumerate(zip(sources, groups, strict=True)):
            found += [_File(file, source, owner, is_held_out) for file in group]
    return found


def _tasks(files: list[_File], thinned: set[int]) -> Iterator[Task]:
    """A source of which only some rows will be seen is looked through first: none is to be tokenized."""
    number = 0
    nothing = np.zeros(0, dtype=np.int64)
    for file in files:
        first = number
        wanted = nothing if file.owner in thinned and not file.is_held_out else None
        for piece in _pieces(file):
            yield Task(number, piece, file.reading, file.owner, wanted)
            number += 1
        file.numbers = range(first, number)


def _pieces(file: _File) -> Iterator[Piece]:
    """The pieces of a file, whose reading is known with the first."""
    stream = pieces(file.source, file.problems)
    seen = _Seen(stream)
    with file.problems.noting(file.source.name):
        if next(iter(seen), None) is not None:
            file.reading = reading_of(seen, file.data.format, file.data.columns)
    yield from chain(seen.pieces, stream)


class _Seen:
    """The rows of the first pieces, of which no more are read than are asked for."""

    def __init__(self, stream: Iterator[Piece]) -> None:
        self.pieces: list[Piece] = []
        self._stream = stream

    def __iter__(self) -> Iterator[Row]:
        for index in range(_LOOKED_AT):
            if index == len(self.pieces):
                self.pieces += islice(self._stream, 1)
            if index == len(self.pieces):
                return
            yield from self.pieces[index].read(Problems())


def _made(maker: Maker, folder: Path, kind: str, task: Task) -> tuple[int, int, int]:
    """The part of a task is there; returns its number, its bytes of lines, and its rows."""
    file = _path(folder, task.number, kind)
    if file.is_file():
        rows = Part.open(file, with_tokens=False).told.rows
    else:
        part = maker.make(task)
        part.save(file)
        rows = part.told.rows
    return task.number, len(task.piece.lines), rows


def _path(folder: Path, number: int, kind: str = "") -> Path:
    return folder / f"{number:06d}{kind}.npz"


class _Table:
    """What the parts tell without their tokens."""

    def __init__(self) -> None:
        self.answered: list[npt.NDArray[np.bool_]] = []
        self.said: list[npt.NDArray[np.void]] = []
        self.notes: list[str] = []
        self.message_keys: set[str] = set()
        self.rows = 0

    @property
    def examples(self) -> list[int]:
        """Of each part."""
        return [len(one) for one in self.answered]

    @classmethod
    def of(cls, files: list[_File], parts: list[Path], problems: Problems) -> _Table:
        """Adds to ``problems`` what is wrong with the rows."""
        table = cls()
        for file in files:
            before, rows = len(problems), table.rows
            unused: set[str] = set()
            problems.take(file.problems)
            for number in file.numbers:
                part = Part.open(parts[number], with_tokens=False)
                problems.take(part.told.problems)
                unused |= part.told.unused
                table.message_keys |= part.told.message_keys
                table.rows += part.told.rows
                table.answered.append(part.answered)
                table.said.append(part.said)
            table.rows += file.problems.bad_rows
            note_empty(file.source, problems, is_empty=table.rows == rows and len(problems) == before)
            table.notes += file.reading.notes(unused) if file.reading is not None else []
        return table


def _chosen_parts(
    files: list[_File],
    thinned: set[int],
    maker: Maker,
    folder: Path,
    parts: list[Path],
    starts: npt.NDArray[np.int64],
    choice: Choice,
) -> list[Path]:
    """Makes those of thinned sources with the tokens of what was chosen."""
    chosen = np.union1d(choice.train, choice.eval)
    edges = np.searchsorted(chosen, [*starts, np.iinfo(np.int64).max])

    def tasks() -> Iterator[Task]:
        for file in files:
            if file.is_held_out or file.owner not in thinned:
                continue
            for number, piece in zip(file.numbers, pieces(file.source, Problems()), strict=True):
                low, high = edges[number : number + 2]
                yield Task(number, piece, file.reading, file.owner, chosen[low:high] - starts[number])

    found = list(parts)
    for number, _, _ in in_processes(partial(_made, maker, folder, "-chosen"), tasks(), count_cpus()):
        found[number] = _path(folder, number, "-chosen")
    return found


@dataclass
class _Sizes:
    """How much of the files is done, by their bytes."""

    total_bytes: int | None
    done_bytes: int = 0
    rows: int = 0

    @classmethod
    def of(cls, files: list[_File]) -> _Sizes:
        """Known of files of lines alone: pieces of others do not say how large they are."""
        lines = all(
            file.source.layout == "file" and extension(file.source.path) in (".jsonl", ".ndjson")
            for file in files
        )
        return cls(sum(file.source.path.stat().st_size for file in files) if lines else None)

    def add(self, lines_bytes: int, rows: int) -> tuple[int, float | None]:
        """What ``Progress`` is told when a part is there."""
        self.done_bytes += lines_bytes
        self.rows += rows
        return self.rows, min(self.done_bytes / self.total_bytes, 1.0) if self.total_bytes else None
