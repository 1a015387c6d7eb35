"""A look at rows before they are trained on: at all of them, or, where they are many, at some that are spread
evenly over their files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.examples import Examples, examples_of, held_out_sources, load_examples
from sweeper.data.read.files import Source, extension, sources_of
from sweeper.data.read.formats import Example, conversations
from sweeper.data.read.parse import Row, line_rows
from sweeper.data.read.read import read_rows, saved_records
from sweeper.errors import UserError
from sweeper.space import DataSource, Settings, times_seen

__all__ = ["Look", "look_at"]

_LARGE_BYTES = 16 * 2**20
"""Files of fewer bytes together are read whole, in about half a second."""
_ROWS, _LEAST_ROWS, _HEAD_ROWS = 2000, 50, 16
_LONGEST_LINE_BYTES = 2**22
_GROUPS = 8
"""So many groups of rows of a Parquet file are looked into."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Rows, and how many there are."""

    examples: Examples
    """All of them, or those that were looked at."""
    looked_at: int | None = None
    """Rows that were read, where those are only some; all that follows is then estimated."""
    train_rows: int
    """Rows of one epoch, repeats counted."""
    eval_rows: int
    source_rows: tuple[int, ...]
    share: float = 1.0
    """Rows that there are, for each that was looked at."""

    def count(self, name: str) -> int:
        """One of the counts of ``Examples``, for all rows."""
        return round(self.examples.counts[name] * self.share)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is told of the rows."""
        if self.looked_at is None:
            return self.examples.notes
        sampled = f"rows are counted by a sample: {self.looked_at:,}, spread over the data, were looked at"
        return (sampled, *self.examples.notes)


def look_at(settings: Settings) -> Look:
    """Of 16 MiB and more, some of the rows: JSONL, Parquet and what ``datasets`` maps; anything else is read
    whole, and so is everything where the sample has a fault, so that faults are told by their place.

    Raises what ``load_examples`` raises.
    """
    try:
        found = _sampled(settings)
    except (UserError, Unusable, OSError, ValueError):
        found = None  # told from the whole files
    if found is not None:
        return found
    examples = load_examples(settings)
    return Look(
        examples=examples,
        train_rows=examples.train_rows,
        eval_rows=len(examples.eval),
        source_rows=examples.source_rows,
    )


def _sampled(settings: Settings) -> Look | None:
    problems = Problems(settings.max_bad_rows)
    held_out = held_out_sources(settings)
    groups = sources_of([one.path for one in (*settings.sources, *held_out)], problems)
    sizes = {file.name: _bytes(file) for group in groups for file in group}
    if sum(sizes.values()) <= _LARGE_BYTES or not any(_can_be_sampled(f) for group in groups for f in group):
        return None
    notes: dict[str, None] = {}
    taken = [
        _of_source(source, index, files, sizes, problems, notes)
        for index, (source, files) in enumerate(zip((*settings.sources, *held_out), groups, strict=True))
    ]
    problems.raise_if_any()
    count = len(settings.sources)
    looked, there = sum(one.looked_at for one in taken), sum(one.rows for one in taken)
    examples = examples_of(
        [example for one in taken[:count] for example in one.examples],
        [replace(example, source=0) for one in taken[count:] for example in one.examples],
        settings,
        {"rows_read": looked, "rows_bad": problems.bad_rows},
        tuple(notes),
    )
    return _scaled(settings, examples, [one.rows / max(one.looked_at, 1) for one in taken], looked, there)


def _scaled(settings: Settings, examples: Examples, shares: list[float], looked: int, there: int) -> Look:
    rows = tuple(round(n * share) for n, share in zip(examples.source_rows, shares, strict=False))
    owners = np.asarray([one.source for one in examples.eval])
    of_file = isinstance(settings.eval_data, str)
    eval_rows = len(owners) * shares[-1] if of_file else float(np.asarray(shares)[owners].sum())
    seen = (times_seen(n, one.weight) for n, one in zip(rows, settings.sources, strict=True))
    return Look(
        examples=examples,
        looked_at=looked,
        train_rows=sum(seen),
        eval_rows=round(eval_rows),
        source_rows=rows,
        share=there / looked,
    )


@dataclass(frozen=True)
class _Taken:
    """Some rows of a source."""

    examples: list[Example]
    looked_at: int
    rows: int
    """That there are, estimated."""


def _of_source(
    source: DataSource,
    index: int,
    files: list[Source],
    sizes: dict[str, int],
    problems: Problems,
    notes: dict[str, None],
) -> _Taken:
    examples: list[Example] = []
    looked, there = 0, 0
    for file in files:
        count = max(round(_ROWS * sizes[file.name] / sum(sizes.values())), _LEAST_ROWS)
        before = problems.bad_rows
        if _can_be_sampled(file):
            rows, of_file = _some_of(file, count, problems)
        else:
            rows = read_rows(file, problems)
            of_file = len(rows)
        bad = problems.bad_rows - before
        looked, there = looked + len(rows) + bad, there + of_file + bad
        examples += conversations(rows, source.format, problems, index, source.columns, notes)
    return _Taken(examples, looked, there)


def _bytes(file: Source) -> int:
    if file.layout == "file":
        return file.path.stat().st_size
    if file.layout == "hub":
        return 0  # whatever it has is fetched and mapped in any case
    return sum(one.stat().st_size for one in file.path.rglob("*") if one.is_file())


def _can_be_sampled(file: Source) -> bool:
    return file.layout != "file" or extension(file.path) in (".jsonl", ".ndjson", ".parquet")


def _some_of(file: Source, count: int, problems: Problems) -> tuple[list[Row], int]:
    """Rows of a file, and how many it has. Raises: Unusable, OSError, ValueError where it cannot be so."""
    if file.layout != "file":
        return _of_records(file, count)
    if extension(file.path) == ".parquet":
        return _of_groups(file.path, count)
    if file.path.stat().st_size <= _LARGE_BYTES // _ROWS * count:
        rows = read_rows(file, problems)  # a part of many
        return rows, len(rows)
    return _of_lines(file.path, count, problems)


def _of_records(file: Source, count: int) -> tuple[list[Row], int]:
    records = saved_records(file)
    indices = np.unique(np.linspace(0, len(records) - 1, num=min(count, len(records))).astype(int))
    rows = [
        Row(dict(one), file.name, f"row {index + 1}")
        for index, one in zip(indices.tolist(), records.select(indices), strict=True)
    ]
    return rows, len(records)


def _of_groups(path: Path, count: int) -> tuple[list[Row], int]:
    """The first rows of groups, as they are stored."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with pq.ParquetFile(path) as opened:
        groups = opened.num_row_groups
        sizes = [opened.metadata.row_group(group).num_rows for group in range(groups)]
        firsts = np.concatenate([[0], np.cumsum(sizes)])
        picked = sorted({number * groups // _GROUPS for number in range(_GROUPS)}) if groups else []
        rows: list[Row] = []
        for group in picked:
            wanted = -(-count // len(picked))
            batch = next(opened.iter_batches(batch_size=wanted, row_groups=[group]))
            rows += [
                Row(fields, str(path), f"row {firsts[group] + number}")
                for number, fields in enumerate(batch.to_pylist(), start=1)
            ]
        return rows, opened.metadata.num_rows


def _of_lines(path: Path, count: int, problems: Problems) -> tuple[list[Row], int]:
    """The first lines, and those that follow on evenly spaced places: long ones come no more often so. How
    many there are follows from the bytes of a line.

    Raises: ValueError where they are no objects.
    """
    head = _head(path)
    if not head.lstrip().startswith(b"{"):
        raise ValueError("no lines of JSON")
    rows = list(line_rows(str(path), head, 1, problems))
    lengths: list[int] = []
    for start, line in _spread_lines(path, max(count - _HEAD_ROWS, 1)):
        lengths.append(len(line))
        rows += (
            replace(row, place=f"the line at byte {start:,}")
            for row in line_rows(str(path), line.rstrip(b"\n"), start, problems)
            if start >= len(head)
        )
    return rows, round(path.stat().st_size / float(np.mean(lengths)))


def _head(path: Path) -> bytes:
    with path.open("rb") as opened:
        return b"".join(opened.readline(_LONGEST_LINE_BYTES) for _ in range(_HEAD_ROWS))


def _spread_lines(path: Path, count: int) -> Iterator[tuple[int, bytes]]:
    """Lines with the byte that each begins at."""
    size, last = path.stat().st_size, -1
    with path.open("rb") as opened:
        for number in range(count):
            opened.seek(number * size // count)
            if number:
                opened.readline(_LONGEST_LINE_BYTES)
            start, line = opened.tell(), opened.readline(_LONGEST_LINE_BYTES)
            if start > last and line.strip() and (line.endswith(b"\n") or start + len(line) == size):
                yield start, line
            last = max(last, start)
