"""What can be read, and how what cannot is told."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_helpers import rows_of

from sweeper.data.problems import PROBLEM_LIMIT
from sweeper.errors import DataError

ROWS = [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(5)]


def refusal(*data_paths: str) -> str:
    """The message that reading this ends in."""
    with pytest.raises(DataError) as caught:
        rows_of(*data_paths)
    return str(caught.value)


def fields(data_path: Path | str) -> list[dict[str, Any]]:
    return [row.fields for row in rows_of(str(data_path))]


def write_lines(file: Path) -> None:
    file.write_text("\n".join(json.dumps(row) for row in ROWS))


def write_array(file: Path) -> None:
    file.write_text(json.dumps(ROWS, indent=2))


def write_csv(file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(file: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)


def packed(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def write_packed(file: Path) -> None:
        write(file)
        file.write_bytes(gzip.compress(file.read_bytes(), mtime=0))

    return write_packed


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", write_lines),
        ("a.ndjson", write_lines),
        ("a.json", write_lines),
        ("a.json", write_array),
        ("a.jsonl", write_array),
        ("a.CSV", write_csv),
        ("a.parquet", write_parquet),
        ("a.jsonl.gz", packed(write_lines)),
        ("a.json.gz", packed(write_array)),
        ("a.csv.GZ", packed(write_csv)),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, write):
    write(tmp_path / name)
    assert fields(tmp_path / name) == ROWS


def test_rows_know_their_line(tmp_path, write_jsonl):
    file = write_jsonl(ROWS)
    assert [row.where for row in rows_of(str(file))] == [f"{file}:{n}" for n in range(1, 6)]
    table = tmp_path / "a.csv"
    table.write_text('question,answer\n"two\nlines",1\nq,2\n')
    assert [row.where for row in rows_of(str(table))] == [f"{table}:2", f"{table}:4"]


def test_byte_order_mark_crlf_and_blank_lines_are_tolerated(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(row).encode() for row in ROWS) + b"\r\n")
    assert fields(file) == ROWS
    table = tmp_path / "a.csv"
    table.write_bytes(b"\xef\xbb\xbfquestion,answer\r\nq,a\r\n\r\n")
    assert fields(table) == [{"question": "q", "answer": "a"}]


def test_line_ends_inside_of_strings_end_no_line(tmp_path):
    text = "one\u2029two\u2028three\x85four\x1cfive"
    file = tmp_path / "a.jsonl"
    file.write_text(
        json.dumps({"question": text, "answer": "x"}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert fields(file) == [{"question": text, "answer": "x"}]
    table = tmp_path / "a.csv"
    table.write_text(f"question,answer\n{text},x\n", encoding="utf-8")
    assert fields(table) == [{"question": text, "answer": "x"}]


def test_a_csv_field_may_be_long(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("question,answer\n" + "x" * 300_000 + ",y\n")
    limit = csv.field_size_limit()
    assert len(fields(file)[0]["question"]) == 300_000
    assert csv.field_size_limit() == limit


def test_globs_folders_and_lists_give_each_file_once_in_order(tmp_path, write_jsonl):
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl"):
        write_jsonl([{"question": name, "answer": "x"}], name)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.jsonl").write_text('{"question": "c.jsonl", "answer": "x"}')
    read = [row["question"] for row in fields(tmp_path)]
    assert read == ["a.jsonl", "b.jsonl"]
    assert [row["question"] for row in fields(f"{tmp_path}/*.jsonl")] == read
    assert [row["question"] for row in fields(f"{tmp_path}/**/*.jsonl")] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    both = rows_of(f"{tmp_path}/b.jsonl", str(tmp_path))
    assert [row.fields["question"] for row in both] == ["b.jsonl", "a.jsonl"]


def test_a_broken_line_is_named_by_its_number(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": 1}\n{"question": \n[1]\n"text"\n{"a": 1} x\n')
    told = refusal(str(file))
    for line in (2, 3, 4, 5):
        assert f"{file}:{line}: " in told
    assert f"{file}:1:" not in told


def test_a_broken_array_is_named_by_its_line(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('[\n{"question": 1},\n{"question" 2}\n]')
    assert f"{file}:3: " in refusal(str(file))
    file.write_text('[{"question": 1}, 5]')
    assert f"{file}:item 2: 5: a row is a JSON object" in refusal(str(file))


def test_a_csv_row_that_does_not_fit_the_header_is_named_by_its_line(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('question,answer\n"a\nb",1\nq,1,2\nq\n')
    told = refusal(str(file))
    assert f"{file}:4: " in told
    assert f"{file}:5: " in told
    file.write_text('question,answer\nq,"open\n')
    assert f"{file}:2: " in refusal(str(file))
    file.write_text("question,question\na,b\n")
    assert "its own name" in refusal(str(file))


def test_many_problems_are_told_up_to_a_limit_and_then_counted(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("broken\n" * 50)
    with pytest.raises(DataError) as caught:
        rows_of(str(file))
    assert len(caught.value.problems) == PROBLEM_LIMIT + 1
    assert f"{50 - PROBLEM_LIMIT} more problems" in str(caught.value)


def test_the_problems_of_all_files_are_told_at_once(tmp_path):
    (tmp_path / "a.jsonl").write_text("broken\n")
    told = refusal(str(tmp_path / "a.jsonl"), str(tmp_path / "none.jsonl"))
    assert "a.jsonl:1" in told
    assert "none.jsonl: there is no such file" in told


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b"\n \n", "holds no rows"),
        ("a.json", b"[]", "holds no rows"),
        ("a.csv", b"question,answer\n", "holds no rows"),
        ("a.jsonl", b"\x1f\x8b\x08\x00\x00", "binary"),
        ("a.csv", b"PK\x03\x04\x00\x00", "binary"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b'{"a": "ok"}\n{"a": "\xe9"}\n', "a.jsonl:2: byte 0xe9: the line is not UTF-8"),
        ("a.json", b'[\n"\xe9"]', "a.json:2: byte 0xe9: the file is not UTF-8"),
        ("a.csv", b"q,a\n1,\xe9\n", "a.csv:2: byte 0xe9: the file is not UTF-8"),
        ("a.parquet", b"not parquet", "not a readable Parquet file"),
        ("a.json", b'{\n "data": [\n  {"a": 1}\n ]\n}\n', "one JSON object over several lines"),
        ("a.jsonl", b"[" * 100_000, "not usable JSON"),
        ("a.jsonl.gz", b"question", "not whole gzip"),
        ("a.jsonl.gz", gzip.compress(b"question" * 99, mtime=0)[:-9], "not whole gzip"),
        ("a.gz", b"question", "no known kind of data file"),
        ("a.txt", b"question", "no known kind of data file"),
        ("data", b"question", "no known kind of data file"),
    ],
)
def test_what_is_no_data_file_is_refused_with_the_reason(tmp_path, name, content, rule):
    (tmp_path / name).write_bytes(content)
    assert rule in refusal(str(tmp_path / name))


def test_missing_files_folders_without_data_and_globs_without_match_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no such file" in refusal("data/train.jsonl")
    assert "no such file" in refusal("../train")
    assert "holds no data file" in refusal("empty")
    assert "matches nothing" in refusal("*.jsonl")
