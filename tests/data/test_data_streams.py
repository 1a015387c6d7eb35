"""Arrays of JSON, CSV and packed files in pieces: the same rows wherever a piece ends, little held."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc

import pytest
from data_helpers import rows_of

from sweeper.data.problems import Problems
from sweeper.data.read import read
from sweeper.data.read.files import Source
from sweeper.errors import DataError

ROWS = [
    {"question": f"Wie viel\r\nist „{n}“ + 1? \\ \n" * (n % 3), "answer": f'"{n + 1}", 日本', "n": n * 10**9}
    for n in range(9)
]


def write(file, rows):
    """The rows as the file's name says."""
    opener = gzip.open if file.suffix == ".gz" else open
    name = file.name.removesuffix(".gz")
    with opener(file, "wt", encoding="utf-8", newline="") as stream:
        if name.endswith(".csv"):
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        elif name.endswith(".jsonl"):
            stream.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            json.dump(rows, stream, indent=2 if name == "indented.json" else None, ensure_ascii=False)
    return file


@pytest.mark.parametrize("name", ["array.json", "indented.json", "a.csv", "a.jsonl.gz", "indented.json.gz"])
def test_rows_are_the_same_wherever_a_piece_ends(name, tmp_path, monkeypatch):
    file = write(tmp_path / name, ROWS)
    whole = rows_of(str(file))
    assert [row.fields["answer"] for row in whole] == [row["answer"] for row in ROWS]
    for size in (*range(8, 60), 200, 1000):
        monkeypatch.setattr(read, "PIECE_BYTES", size)
        assert rows_of(str(file)) == whole


@pytest.mark.parametrize(
    "text",
    [
        '[\n{"a": 1},\n{"a" 2}\n]',
        '[{"a": 1},\n {"b": [1, 2}]',
        '[{"a": 1},\n {"b": "日本',
        '[{"a": 1}\n\n {"b": 1}]',
        '[{"a": 1},\n]',
        '[\n{"a": 1}]\n\n 5',
        '[{"a": tru}, {"a": 1}]',
        '[{"a": "\\u12"}]',
    ],
)
def test_a_broken_array_is_named_by_the_same_place_wherever_a_piece_ends(text, tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")

    def told() -> tuple[str, str]:
        with pytest.raises(DataError) as caught:
            rows_of(str(file))
        return caught.value.problems[-1].where, caught.value.problems[-1].rule

    whole = told()
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    assert whole[0] == f"{file}:{caught.value.lineno}"
    assert whole[1].endswith(f"at column {caught.value.colno}")
    for size in range(8, 40):
        monkeypatch.setattr(read, "PIECE_BYTES", size)
        assert told() == whole


NAMES = ["array.json", "indented.json", "a.csv", "a.jsonl.gz", "a.csv.gz", "array.json.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_no_more_of_a_file_is_held_than_some_pieces(name, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "PIECE_BYTES", 2**14)
    monkeypatch.setattr(read, "PIECE_ROWS", 16)
    rows = [{"question": f"{n} + 1? " * 60, "answer": f"{n + 1} " * 60} for n in range(3000)]
    file = write(tmp_path / name, rows)
    source = Source(str(file))
    tracemalloc.start()
    count = sum(len(list(piece.read(Problems()))) for piece in read.pieces(source, Problems()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == len(rows)
    assert peak < 2**19  # of 2.7 MB
