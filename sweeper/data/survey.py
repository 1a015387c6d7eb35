"""A first look at data that may be large: its facts in seconds, from rows picked evenly over its file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sweeper.data.gathering import gather_facts
from sweeper.data.problems import Problems
from sweeper.data.read.files import extension, sources_of
from sweeper.data.read.formats import row_format
from sweeper.errors import UserError
from sweeper.space import DataFormat, Facts, SampledRows, Settings

__all__ = ["FirstLook", "first_look"]

_LARGE_BYTES = 16 * 2**20
"""A file of fewer bytes is read whole, in about half a second."""
_ROWS, _LONGEST_LINE_BYTES = 2000, 2**22


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """What is known of model and data before a space file is written."""

    facts: Facts
    """Of a large file the counts of rows are estimated."""
    format: DataFormat | None
    """Of the first row; None of a hub id, which is not fetched for that."""
    looked_at: int | None
    """Rows that were read of a large file; None where all of them were."""


def first_look(settings: Settings) -> FirstLook:
    """Facts of the settings, and the format of their rows.

    Of one large JSONL or Parquet file 2,000 rows are read, evenly over it, and their number is estimated:
    from the bytes of a line, or as Parquet has it. Everything else is read whole, and so is a file whose
    sample has a fault, so that faults are told by their place.

    Raises what ``gather_facts`` raises.
    """
    file = _large_file(settings)
    if file is not None:
        with tempfile.TemporaryDirectory() as folder:
            sample = Path(folder) / ("rows.parquet" if extension(file) == ".parquet" else "rows.jsonl")
            try:
                found = (
                    _sampled_parquet(file, sample) if sample.suffix == ".parquet" else _sampled(file, sample)
                )
                if found is not None:
                    return _from_sample(settings, file, sample, *found)
            except (UserError, OSError, ValueError):
                pass  # told from the whole file, with the line of it
    facts = gather_facts(settings)
    return FirstLook(facts=facts, format=row_format(settings.sources[0].path), looked_at=None)


def _large_file(settings: Settings) -> Path | None:
    """The one file that the rows are in, where it is large and can be read in parts."""
    if len(settings.sources) != 1:
        return None
    files = [one for group in sources_of([settings.sources[0].path], Problems()) for one in group]
    if len(files) != 1 or files[0].layout != "file":
        return None
    path = files[0].path
    is_in_parts = extension(path) in (".jsonl", ".ndjson", ".parquet")
    return path if is_in_parts and path.stat().st_size > _LARGE_BYTES else None


def _sampled(file: Path, sample: Path) -> tuple[int, int] | None:
    """Writes some lines; returns how many, and how many the file has, estimated. None where they are no
    objects."""
    lines = list(_lines(file))
    if not lines or not lines[0].lstrip().startswith(b"{"):
        return None
    sample.write_bytes(b"".join(line.rstrip(b"\n") + b"\n" for line in lines))
    mean_bytes = sum(map(len, lines)) / len(lines)
    return len(lines), round(file.stat().st_size / mean_bytes)


def _lines(file: Path) -> Iterator[bytes]:
    """The first line, and those that follow on evenly spaced places: long ones come no more often so."""
    size, last = file.stat().st_size, -1
    with file.open("rb") as opened:
        for number in range(_ROWS):
            opened.seek(number * size // _ROWS)
            if number:
                opened.readline(_LONGEST_LINE_BYTES)
            start, line = opened.tell(), opened.readline(_LONGEST_LINE_BYTES)
            if start > last and line.strip() and (line.endswith(b"\n") or start + len(line) == size):
                yield line
            last = max(last, start)


def _sampled_parquet(file: Path, sample: Path) -> tuple[int, int] | None:
    """The same of groups of rows, as they are stored; None where there are too few to pick from."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    opened = pq.ParquetFile(file)
    groups, rows = opened.num_row_groups, opened.metadata.num_rows
    picked = sorted({number * groups // 8 for number in range(8)}) if groups else []
    if len(picked) == groups or not rows:
        return None
    parts = [opened.read_row_group(group).slice(0, _ROWS // len(picked)) for group in picked]
    table = pa.concat_tables(parts)
    pq.write_table(table, sample)
    return table.num_rows, rows


def _from_sample(settings: Settings, file: Path, sample: Path, read: int, rows: int) -> FirstLook:
    own = settings.model_copy(update={"data_path": str(sample)})
    facts = gather_facts(own)
    share, held_out = rows / read, isinstance(settings.eval_data, str)
    eval_rows = facts.eval_rows if held_out else round(facts.eval_rows * share)
    scaled = replace(
        facts,
        train_rows=round(facts.train_rows * share),
        eval_rows=eval_rows,
        rows_estimated=True,
        data_notes=tuple(note.replace(str(sample), str(file)) for note in facts.data_notes),
        train_sample=_scaled(facts.train_sample, share),
        eval_sample=_scaled(facts.eval_sample, 1.0 if held_out else share),
    )
    return FirstLook(facts=scaled, format=row_format(str(sample)), looked_at=read)


def _scaled(sample: SampledRows | None, share: float) -> SampledRows | None:
    return None if sample is None else replace(sample, rows=round(sample.rows * share), exact=False)
