"""Broken data hurts nobody: what can be read is counted, what cannot is named by file and place, and a row
is lost to neither."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from data_helpers import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.data import prepare
from sweeper.data.read.examples import Examples, load_examples
from sweeper.data.read.messages import LONGEST_TEXT
from sweeper.errors import DataError
from sweeper.space import Settings

GOOD = [json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) for n in range(40)]

BROKEN_LINES: dict[str, tuple[bytes, str]] = {
    "cut off": (b'{"question": "a", "answer": "b', "unterminated string"),
    "cut off before its end": (b'{"question": "a", "answer": "b"', "is not JSON"),
    "no JSON": (b"question: a", "is not JSON"),
    "Python's quotes": (b"{'question': 'a', 'answer': 'b'}", "is not JSON"),
    "a comma too many": (b'{"question": "a", "answer": "b",}', "is not JSON"),
    "two objects": (b'{"question": "a", "answer": "b"} {"question": "c", "answer": "d"}', "extra data"),
    "a number": (b"3", "a row is a JSON object"),
    "a list": (b'["a", "b"]', "a row is a JSON object"),
    "null": (b"null", "a row is a JSON object"),
    "a text": (b'"a"', "a row is a JSON object"),
    "CSV": (b"a,b", "is not JSON"),
    "Latin-1": (b'{"question": "caf\xe9", "answer": "b"}', "not UTF-8"),
    "half of a character": (b'{"question": "\xc3", "answer": "b"}', "not UTF-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"question": "a", "answer": "b"}', "is not JSON"),
    "a tab in a text": (b'{"question": "a\tb", "answer": "b"}', "invalid control character"),
    "an escape of half a pair": (b'{"question": "\\ud800", "answer": "b"}', "half of a surrogate pair"),
    "a half pair in a role": (b'{"question": "a", "answer": ["\\ud800"]}', "is not text"),
    "a half pair in a key": (b'{"\\ud800": "a"}', "question and answer is missing"),
    "a key twice": (b'{"question": "a", "answer": "b", "answer": "c"}', "the key 'answer' stands twice"),
    "no answer at all": (b'{"question": "a"}', "answer is missing"),
    "an empty object": (b"{}", "is missing"),
    "another format": (b'{"instruction": "a", "output": "b"}', "question and answer is missing"),
    "a key in capitals": (
        b'{"Question": "a", "ANSWER": "b"}',
        "call 'Question' question and 'ANSWER' answer",
    ),
    "null for a text": (b'{"question": "a", "answer": null}', "answer is not text"),
    "true for a text": (b'{"question": true, "answer": "b"}', "question is not text"),
    "an object for a text": (b'{"question": {"text": "a"}, "answer": "b"}', "question is not text"),
    "a list for a text": (b'{"question": "a", "answer": ["b", ["c"]]}', "answer is not text"),
    "NaN for a text": (b'{"question": "a", "answer": NaN}', "answer is not text"),
    "infinity for a text": (b'{"question": -Infinity, "answer": "b"}', "question is not text"),
    "a number beyond all": (b'{"question": 1e999, "answer": "b"}', "question is not text"),
    "a number of 5,000 digits": (b'{"question": ' + b"9" * 5_000 + b', "answer": "b"}', "not usable JSON"),
    "brackets without end": (b"[" * 5_000, "not usable JSON"),
    "objects without end": (b'{"a":' * 5_000, "not usable JSON"),
    "a text beyond all": (b'{"question": "' + b"a" * (LONGEST_TEXT + 1) + b'", "answer": "b"}', "at most"),
}


def settings_of(path: Path | str, **changes: Any) -> Settings:
    tree = {"name": "t", "model_path": "m", "data_path": str(path), "max_bad_rows": 1000, **changes}
    return Settings.model_validate(tree)


def is_whole(examples: Examples, rows: int) -> bool:
    """Whether each row that was there is trained on, held out, or counted among those left out."""
    counts = examples.counts
    kept = len(examples.train) + len(examples.eval) + counts["rows_left_out_by_weight"]
    left_out = counts["rows_bad"] + counts["rows_without_answer"] + counts["rows_leaked"]
    return counts["rows_read"] == rows == kept + left_out


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(str(path))
    return str(caught.value)


@pytest.mark.parametrize("title", BROKEN_LINES)
def test_a_broken_line_is_named_counted_and_left_out_alone(title, tmp_path):
    line, rule = BROKEN_LINES[title]
    file = tmp_path / "a.jsonl"
    lines = [one.encode() for one in GOOD]
    file.write_bytes(b"\n".join([*lines[:5], line, *lines[5:]]) + b"\n")
    with pytest.raises(DataError) as caught:
        load_examples(settings_of(file, max_bad_rows=0))
    (problem,) = caught.value.problems
    assert problem.where == f"{file}:6"
    assert rule in f"{problem.rule}, {problem.remedy}"
    assert len(str(problem)) < 2000 and str(problem).encode("utf-8")
    examples = load_examples(settings_of(file))
    assert examples.counts["rows_bad"] == 1
    assert is_whole(examples, len(GOOD) + 1)


@pytest.mark.parametrize("title", ["cut off", "a list", "an escape of half a pair", "a key twice"])
def test_a_broken_first_line_is_left_out_like_any_other(title, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(BROKEN_LINES[title][0] + b"\n" + "\n".join(GOOD).encode())
    examples = load_examples(settings_of(file))
    assert examples.counts["rows_bad"] == 1
    assert is_whole(examples, len(GOOD) + 1)


@settings(max_examples=80, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                *sorted(set(BROKEN_LINES) - {"a text beyond all"}),
                *("good", "silent", "blank", "repeated", "line ends in a text"),
            ]
        ),
        max_size=30,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_rows_in_are_rows_kept_and_rows_counted(kinds, line_end, marked):
    rows, lines = 0, [*GOOD[:4]]
    for number, kind in enumerate(kinds):
        rows += kind != "blank"
        lines.append(_line(kind, number))
    text = line_end.join(lines) + line_end
    content = (b"\xef\xbb\xbf" if marked else b"") + text.encode("utf-8", errors="surrogateescape")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_bytes(content)
        examples = load_examples(settings_of(file, eval_data=0.3))
    assert examples.counts["rows_bad"] == sum(kind in BROKEN_LINES for kind in kinds)
    assert is_whole(examples, rows + 4)


def _line(kind: str, number: int) -> str:
    made = {
        "good": GOOD[4 + number % 30],
        "silent": json.dumps({"question": f"{number}?", "answer": " "}),
        "blank": "  ",
        "repeated": GOOD[0],
        "line ends in a text": json.dumps(
            {"question": f"\u2028\u2029\x85{number}", "answer": "\x0b\x1c"}, ensure_ascii=False
        ),
    }
    return made.get(kind) or BROKEN_LINES[kind][0].decode("utf-8", errors="surrogateescape")


def test_a_broken_item_of_an_array_is_left_out_like_a_line(tmp_path):
    file = tmp_path / "a.json"
    items = [*GOOD[:3], "5", *GOOD[3:6], "null", '["a"]', '{"question": "a", "question": "b"}', *GOOD[6:]]
    file.write_text("[\n" + ",\n".join(items) + "\n]")
    with pytest.raises(DataError) as caught:
        load_examples(settings_of(file, max_bad_rows=3))
    places = [problem.where for problem in caught.value.problems]
    assert places == [*(f"{file}:item {n}" for n in (4, 8, 9, 10)), "max_bad_rows"]
    assert "the key 'question' stands twice" in caught.value.problems[3].rule
    examples = load_examples(settings_of(file, max_bad_rows=4))
    assert examples.counts["rows_bad"] == 4
    assert is_whole(examples, len(items))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[\n{"question": "a"},\n{"question" "b"}\n]', "column 13"),
        ('[\n{"question": "a"},\n{"question": "b"', "column 17"),
        ('[\n{"question": "a"},\n{"question": "b"},\n]', ":4: "),
        ('[\n{"question": "a"}\n{"question": "b"}]', ":3: "),
    ],
)
def test_an_array_that_is_no_json_is_refused_at_its_line_and_column(text, place, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        load_examples(settings_of(file))
    assert place in str(caught.value)
    assert "no item can be left out of it" in str(caught.value)


CSV_FILES: dict[str, tuple[bytes, str]] = {
    "a row of too many fields": (b"question,answer\na,b\nc,d,e\nf,g\n", ":3: "),
    "a row of too few fields": (b"question,answer\na,b\nc\nf,g\n", ":3: "),
    "a quote that is never closed": (b'question,answer\na,b\nc,"d\nf,g\n', ":3: "),
    "a quote within a field": (b'question,answer\na,b\n"c"x,d\nf,g\n', ":3: "),
    "a NUL": (b"question,answer\na,b\nc,\0\nf,g\n", ":3: "),
    "Latin-1": (b"question,answer\na,b\nc,\xe9\nf,g\n", ":3: "),
    "a name twice": (b"answer,answer\na,b\n", ":1: "),
    "a column without a name": (b"question,\na,b\n", ":1: "),
    "names in capitals": (b"Question,Answer\na,b\n", "call 'Question' question"),
    "semicolons": (b"question;answer\na;b\n", "fit none of the known formats"),
    "JSON": (b'{"question": "a", "answer": "b"}\n{"question": "c"}\n', ":2: "),
}


@pytest.mark.parametrize("title", CSV_FILES)
def test_a_broken_table_is_refused_at_its_line(title, tmp_path):
    content, place = CSV_FILES[title]
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_examples(settings_of(file, max_bad_rows=0))
    assert (f"{file}{place}" if place.startswith(":") else place) in str(caught.value)


def test_ragged_rows_of_a_table_are_counted(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("question,answer\n" + "".join(f"a{n},b\nc,d,e\nf\n,\n" for n in range(5)))
    examples = load_examples(settings_of(file, eval_data=0.3))
    assert examples.counts["rows_bad"] == 10
    assert examples.counts["rows_without_answer"] == 5
    assert is_whole(examples, 20)


def test_a_parquet_file_that_is_cut_off_or_damaged_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "a.parquet"
    rows = [{"question": f"{n}?" * 50, "answer": str(n)} for n in range(2000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, compression="snappy")
    whole = file.read_bytes()
    for size in (0, 3, 4, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert f"{file}: it is not a readable Parquet file" in refusal(file)
    for place in range(4, len(whole), len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place : place + 16] = bytes(16)
        file.write_bytes(damaged)
        try:
            assert len(rows_of(str(file))) == len(rows)  # no checksum tells that a letter is another
        except DataError as error:
            assert f"{file}: it is not a readable Parquet file" in str(error)


def test_odd_columns_of_a_parquet_file_are_bad_rows(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "a.parquet"
    answers = [b"bytes", None, "text"]
    for number, kind in enumerate((pyarrow.binary(), pyarrow.null(), pyarrow.string())):
        column = pyarrow.array([answers[number]] * 3, type=kind)
        table = pyarrow.table({"question": [f"{number} {n}" for n in range(3)], "answer": column})
        pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
    examples = load_examples(settings_of(tmp_path, eval_data=0.3))
    assert examples.counts["rows_bad"] == 6
    assert is_whole(examples, 9)
    far = pyarrow.array([2**62], type=pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a"], "answer": ["b"], "when": far}), file)
    assert "not a readable Parquet file" in refusal(file)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", gzip.compress(b"a" * 99, mtime=0), "let its name end with .gz"),
        ("a.csv", gzip.compress(b"a" * 99, mtime=0), "let its name end with .gz"),
        ("a.json", b"PAR1" + bytes(99), "give a Parquet file its extension"),
        ("a.jsonl", GOOD[0].encode() + b"\n" + b'{"question": "\0"}\n', "a.jsonl:2: it is a binary file"),
        ("a.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(99), "a.jsonl:3: it is a binary file"),
        ("a.jsonl.gz", gzip.compress(b"a" * 99, mtime=0)[:-12], "not whole gzip"),
        ("a.jsonl.gz", gzip.compress(GOOD[0].encode(), mtime=0)[:-4] + b"abcd", "not whole gzip"),
        ("a.parquet", GOOD[0].encode(), "not a readable Parquet file"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"\xef\xbb\xbf", "holds no rows"),
        ("a.json", b"\xef\xbb\xbf[ ]", "holds no rows"),
        ("a.json", b"{", "a.json:1: "),
        ("a.json", b"[", "no item can be left out of it"),
        ("a.json", b"[" * 100_000, "not usable JSON"),
    ],
)
def test_a_file_of_another_kind_than_its_name_says_is_refused(name, content, told, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert told in refusal(tmp_path / name)


def test_what_broken_rows_hold_can_be_written_and_printed(chat_model, make_config, tmp_path):
    file = tmp_path / "a.jsonl"
    odd = [*GOOD, '{"messages": [{"role": "\\ud800\\u202e\\u001b[2J", "content": "a"}]}', '{"\\udfff": 1}']
    file.write_text("\n".join(odd))
    config = make_config(chat_model, file, max_bad_rows=2, data_format="question_answer")
    data = prepare(config, tmp_path / "cache")
    assert data.counts["rows_bad"] == 2
    file.write_text("\n".join(odd[-2:]))
    with pytest.raises(DataError) as caught:
        load_examples(settings_of(file, max_bad_rows=0, data_format="messages"))
    assert str(caught.value).replace("\n", "").isprintable()


_READ = """
import resource, sys, time
from sweeper.data.problems import Problems
from sweeper.data.read.files import sources_of
from sweeper.data.read.read import read_rows
problems = Problems()
((source,),) = sources_of([sys.argv[1]], problems)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = list(read_rows(source, problems))
print(len(rows), problems.bad_rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("whole", [True, False])
def test_a_line_of_100_mb_is_a_bad_row_and_takes_memory_twice_its_size_at_most(whole, tmp_path):
    file = tmp_path / "a.jsonl"
    with file.open("wb") as stream:
        stream.write(GOOD[0].encode() + b"\n" + b'{"question": "')
        for _ in range(100):
            stream.write(b"a" * 10**6)
        stream.write(b'", "answer": "b"}\n' + GOOD[1].encode() if whole else b"")
    done = subprocess.run([sys.executable, "-c", _READ, str(file)], capture_output=True, text=True)
    rows, bad, memory_mib = map(int, done.stdout.split())
    assert (rows, bad) == (2 if whole else 1, 1), done.stderr
    assert memory_mib < 250
