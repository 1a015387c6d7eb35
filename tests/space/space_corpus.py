"""Space files that must be refused, and the folder in which they are read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HEAD = "name: t\nmodel_path: builtin:quickstart\ndata_path: rows.jsonl\n"
"""Put before a case that does not begin with a name of its own."""

ROWS = 140


@dataclass(frozen=True)
class BadFile:
    """One file, and what must be said of it."""

    title: str
    make: Callable[[], bytes]
    """Its content, made when it is needed: some are large."""
    parts: tuple[str, ...] = ()
    """Parts of the message."""
    only_run: bool = False
    """Whether ``validate`` accepts it, as nothing but a sweep needs more."""


def kept_files() -> list[BadFile]:
    """Every file of ``corpus/`` and those that no text file can hold."""
    texts = [one for file in sorted(_CORPUS.glob("*.txt")) for one in _cases(file)]
    return [*texts, *(BadFile(title, make, parts) for title, (make, *parts) in _BYTES.items())]


_CORPUS = Path(__file__).parent / "corpus"
_OWN_HEAD = re.compile(r"^(name\s*:|%|\{)", re.MULTILINE)


def _cases(file: Path) -> Iterator[BadFile]:
    for case in re.split(r"^@@@ ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, *lines = case.split("\n")
        told = next(index for index, line in enumerate(lines) if not line.startswith("@ "))
        body = "\n".join(lines[told:]).rstrip("\n") + "\n"
        head = "" if _OWN_HEAD.search(body) else HEAD
        parts = tuple(line.removeprefix("@ ") for line in lines[:told])
        content = (head + body).encode()
        yield BadFile(f"{file.stem}: {title}", partial(bytes, content), parts, title.endswith("(run)"))


def _after_head(body: str | bytes) -> bytes:
    return HEAD.encode() + (body.encode() if isinstance(body, str) else body)


def _with_lr(digits: str) -> bytes:
    return _after_head(f"training: {{lr: {digits}}}\n")


_BYTES: dict[str, tuple[Callable[[], bytes] | str, ...]] = {
    "nothing": (lambda: b"", "the file is empty"),
    "a byte order mark and nothing": (lambda: b"\xef\xbb\xbf", "the file is empty"),
    "only comments": (lambda: b"# nothing yet\n", "the file is empty"),
    "only white space": (lambda: b" \n\n  \n", "s.yaml"),
    "null": (lambda: b"~\n", "a mapping"),
    "a number": (lambda: b"3\n", "a mapping"),
    "a list": (lambda: b"- name: t\n", "a mapping"),
    "a byte order mark before a fault": (lambda: b"\xef\xbb\xbf" + _with_lr("no"), "s.yaml:4:16"),
    "two byte order marks": (lambda: b"\xef\xbb\xbf" * 2 + _with_lr("no"), "s.yaml"),
    "Windows line ends": (lambda: _with_lr("no").replace(b"\n", b"\r\n"), "s.yaml:4:16"),
    "old Macintosh line ends": (lambda: _with_lr("no").replace(b"\n", b"\r"), "s.yaml:4:16"),
    "UTF-16": (lambda: _with_lr("0.1").decode().encode("utf-16"), "UTF-8"),
    "UTF-16 without its mark": (lambda: _with_lr("0.1").decode().encode("utf-16-le"), "is not YAML"),
    "UTF-32": (lambda: _with_lr("0.1").decode().encode("utf-32"), "UTF-8"),
    "Latin-1": (lambda: _after_head(b"checkpoint_path: caf\xe9\n"), "s.yaml:4:21", "byte 0xe9"),
    "half of a character": (lambda: _after_head("checkpoint_path: é".encode()[:-1]), "UTF-8"),
    "a surrogate in UTF-8": (lambda: _after_head(b"checkpoint_path: \xed\xa0\x80\n"), "UTF-8"),
    "a NUL": (lambda: _after_head(b"checkpoint_path: a\0b\n"), "is not YAML"),
    "only NULs": (lambda: bytes(1000), "is not YAML"),
    "a terminal's escape": (lambda: _after_head(b"checkpoint_path: \x1b[2J\n"), "is not YAML"),
    "a vertical tab": (lambda: _after_head(b"checkpoint_path: a\x0bb\n"), "is not YAML"),
    "a next line of old machines": (lambda: _after_head("training: {lr: no\u0085}\n"), "s.yaml"),
    "a line separator": (lambda: _after_head("training: {lr: no\u2028}\n"), "s.yaml"),
    "random bytes": (lambda: bytes((i * 97 + 31) % 256 for i in range(4096)), "UTF-8"),
    "a program": (lambda: b"\x7fELF\x02\x01\x01" + bytes(64), "is not YAML"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(64), "UTF-8"),
    "an archive": (lambda: b"PK\x03\x04" + bytes(64), "is not YAML"),
    "10 MB of keys": (lambda: _after_head("training: {}\n" * 800_000), "at most", "bytes"),
    "10 MB of one value": (lambda: _after_head("checkpoint_path: " + "x" * 10_000_000), "at most", "bytes"),
    "10 MB of brackets": (lambda: b"name: " + b"[" * 10_000_000, "at most", "bytes"),
    "10 MB of NULs": (lambda: bytes(10_000_000), "at most", "bytes"),
    "10 MB of line ends": (lambda: b"\n" * 10_000_000, "at most", "bytes"),
    "rows of data": (lambda: b'{"question": "a", "answer": "b"}\n' * 10_000, "at most", "the data?"),
    "a few rows of data": (lambda: b'{"question": "a", "answer": "b"}\n' * 3, "s.yaml:2:1"),
    "a row of data": (lambda: b'{"question": "a", "answer": "b"}\n', "is not a key"),
    "brackets up to the limit": (lambda: _fill("[", ""), "s.yaml:4"),
    "brackets in a key": (lambda: _fill("{a: ", ""), "s.yaml:4"),
    "braces up to the limit": (lambda: _fill("{? ", ""), "s.yaml:4"),
    "dashes up to the limit": (lambda: _fill("- ", "training:\n  ", "\n"), "s.yaml:5"),
    "ever deeper indents": (
        lambda: _after_head("".join(" " * i + f"k{i}:\n" for i in range(300))),
        "nested deeper",
    ),
    "one value up to the limit": (lambda: _fill("x", "checkpoint_path: ", _WRONG), "s.yaml"),
    "one quoted value up to the limit": (
        lambda: _fill("\\x41", 'checkpoint_path: "', '"' + _WRONG),
        "s.yaml",
    ),
    "one key up to the limit": (lambda: _fill("x", "", ": 1\n"), "s.yaml"),
    "options up to the limit": (lambda: _fill("1,", "training: {lr: [", "]}\n"), "values"),
    "small keys up to the limit": (lambda: _fill_numbered("k{}: 1\n"), "values"),
    "unknown keys below the limit of values": (lambda: _numbered("k{}: 1\n", 4_000), "more problems"),
    "near keys below the limit of values": (lambda: _numbered("trainin{}: 1\n", 4_000), "more problems"),
    "one key many times": (lambda: _after_head("training: {}\n" * 4_000), "stands twice"),
    "options below the limit of values": (
        lambda: _after_head("training: {seed: [" + ",".join(map(str, range(9_900))) + ", x]}\n"),
        "whole number",
    ),
    "wrong options below the limit of values": (
        lambda: _after_head("training: {scheduler: [" + "cosin," * 8_000 + "x]}\n"),
        "more problems",
    ),
    "aliases up to the limit": (lambda: _fill("*a,", "training: {lr: &a [", "]}\n"), "s.yaml"),
    "anchors up to the limit": (lambda: _fill("&a 1,", "training: {lr: [", "]}\n"), "s.yaml"),
    "tags up to the limit": (lambda: _fill("!a 1,", "training: {lr: [", "]}\n"), "s.yaml"),
    "comments up to the limit": (lambda: _fill("# a\n", "", _WRONG), "s.yaml"),
    "documents up to the limit": (lambda: _fill("--- a\n", ""), "one document"),
    "directives up to the limit": (lambda: b"%X a\n" * 10_000 + b"---\nname: t\n", "s.yaml"),
    "question marks up to the limit": (lambda: _fill("? ", "", "\n"), "s.yaml"),
    "colons up to the limit": (lambda: _fill(":", ""), "s.yaml"),
    "quotes up to the limit": (lambda: _fill("''", "checkpoint_path: ", _WRONG), "s.yaml"),
    "empty lines in a quote": (lambda: _fill("\n", 'checkpoint_path: "a', 'b"\n'), "control character"),
    "a long block": (lambda: _fill("  x\n", "checkpoint_path: |\n"), "control character"),
    "a whole number of 10^5 digits": (lambda: _with_lr("9" * 100_000), "not a valid int"),
    "a whole number of 10^5 digits in quotes": (lambda: _with_lr('"' + "9" * 100_000 + '"'), "a number"),
    "a number of 10^5 digits": (lambda: _with_lr("0." + "9" * 90_000 + "e+99999"), "must be a number"),
    "a number of 10^5 hexadecimal digits": (lambda: _with_lr("0x" + "f" * 100_000), "not a valid int"),
    "a minus and 10^5 digits": (lambda: _with_lr("-" + "9" * 100_000), "not a valid int"),
    "10^5 zeros before a number": (lambda: _with_lr("0" * 100_000 + "x"), "must be a number"),
    "10^5 underscores in a number": (lambda: _with_lr("1" + "_" * 100_000 + "1.5e3"), "s.yaml"),
    "a span of time of 10^5 parts": (
        lambda: _after_head('search: {time_budget: "' + "1h " * 35_000 + 'x"}\n'),
        "span of time",
    ),
    "a pattern of 10^4 stars": (
        lambda: b"name: t\nmodel_path: builtin:quickstart\ndata_path: '" + b"*a" * 5_000 + b".jsonl'\n",
        "jsonl",
    ),
    "a pattern of many folders": (
        lambda: b"name: t\nmodel_path: builtin:quickstart\ndata_path: '" + b"**/" * 30 + b"x.jsonl'\n",
        "matches nothing",
    ),
    "a list of 5,000 missing files": (
        lambda: b"name: t\nmodel_path: builtin:quickstart\ndata_path: [" + b"a.jsonl, " * 5_000 + b"]\n",
        "more problems",
    ),
    "a metric of 10^5 parts": (
        lambda: _after_head("training: {lr: auto}\nevaluation: {metrics: ['" + "a." * 50_000 + ":f']}\n"),
        "cannot be imported",
    ),
    "a configuration for DeepSpeed of thousands of keys": (
        lambda: _after_head(
            "deepspeed: {config: {"
            + "".join(f"k{i}: 1, " for i in range(4_000))
            + "x: [[1]]}, zero_stage: 9}\n"
        ),
        "one of 0, 1, 2, 3",
    ),
    "a billion laughs in one list": (
        lambda: _after_head(
            "a: &a [" + "x," * 100 + "]\nb: &b [" + "*a," * 100 + "]\nc: [" + "*b," * 100 + "]\n"
        ),
        "once its aliases are expanded",
    ),
    "provenance that is nested and vast": (
        lambda: _after_head("provenance: [" + "{a: [1]}, " * 3_000 + "]\n"),
        "provenance is a mapping",
    ),
}

_WRONG = "\ntraining: {lr: no}\n"
_ALMOST = 119_000
"""Bytes: just below what a space file may have."""


def _fill(unit: str, before: str, after: str = "") -> bytes:
    room = _ALMOST - len(HEAD) - len(before) - len(after)
    return _after_head(before + unit * (room // len(unit)) + after)


def _fill_numbered(line: str) -> bytes:
    return _after_head("".join(line.format(i) for i in range(_ALMOST // (len(line) + 3))))


def _numbered(line: str, count: int) -> bytes:
    return _after_head("".join(line.format(i) for i in range(count)))


def furnish(folder: Path) -> None:
    """The neighbours that the files name."""
    rows = [json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) for n in range(ROWS)]
    texts = {
        "rows.jsonl": "\n".join(rows) + "\n",
        "other_rows.jsonl": "\n".join(rows[:20]) + "\n",
        "same.jsonl": "\n".join(rows) + "\n",
        "empty.jsonl": "",
        "one_row.jsonl": rows[0] + "\n",
        "broken.jsonl": f'{rows[0]}\n{{"question": \n[1]\n{rows[1]}\n{rows[2]}\n',
        "odd.jsonl": '{"x": 1}\n',
        "scores.py": "NUMBER = 3\n\ndef score(prompts, generations, references):\n    return 1.0\n\n"
        "def lonely(prompts):\n    return 1.0\n",
        "other.py": "from scores import score\n",
        "quitting.py": "raise SystemExit(0)\n",
        "not_python.py": "def score(:\n",
        "ds_broken.json": '{\n  "a": 1,,\n}\n',
        "ds_list.json": "[1]",
        "ds_empty.json": "",
        "ds_batch.json": '{"train_batch_size": 999}',
        "ds_optimizer.json": '{"optimizer": {"type": "Adam", "params": {"momentum": 0.9}}}',
        "ds_twice.json": '{"a": 1, "a": 2}',
        "ds_infinite.json": '{"a": Infinity}',
        "ds_digits.json": '{"a": ' + "9" * 1000 + "}",
        "ds_deep.json": '{"a": ' + "[" * 9000 + "]" * 9000 + "}",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    data = {
        "ds_latin1.json": b'{"a": "\xe9"}',
        "latin1.jinja": b"{{ '\xe9' }}",
        "broken.jinja": b"{% for m in messages %}\n{{ m.content }\n{% endfor %}",
        "open.jinja": b"{% for m in messages %}\n{{ m.content }}\n",
        "deep.jinja": b"{{ " + b"(" * 9_000 + b"1" + b")" * 9_000 + b" }}",
        "digits.jinja": b"{{ " + b"9" * 9_000 + b" }}",
        "broken.gguf": b"GGUF\x03",
        "empty.gguf": b"",
        "endless.gguf": _gguf(b"\x08\x00\x00\x00" + b"\xff" * 8),
        "array.gguf": _gguf(b"\x09\x00\x00\x00" + b"\x0a\x00\x00\x00" + b"\xff" * 8),
        "nested.gguf": _gguf(
            b"\x09\x00\x00\x00" + b"\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" * 5_000
        ),
    }
    for name, content in data.items():
        (folder / name).write_bytes(content)
    for name in ("empty", "folder.jinja"):
        (folder / name).mkdir()
    for name in ("pipe.json", "pipe.jinja", "pipe.jsonl"):
        os.mkfifo(folder / name)
    _furnish_models(folder)


def _gguf(value: bytes) -> bytes:
    """A header of one pair, ``k`` and this type and value."""
    return b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + _long(1) + _long(1) + b"k" + value


def _long(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _furnish_models(folder: Path) -> None:
    sizes = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 420}
    configs: dict[str, str | None] = {
        "model": json.dumps(sizes),
        "opt": json.dumps({**sizes, "model_type": "opt"}),
        "no_config": None,
        "broken_config": "{",
        "deep_config": "[" * 100_000,
        "no_width": json.dumps({**sizes, "hidden_size": 0}),
        "negative_width": json.dumps({**sizes, "hidden_size": -64}),
        "endless_width": json.dumps({**sizes, "hidden_size": 10**300}),
        "no_tokenizer": json.dumps(sizes),
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        if config is not None:
            (folder / name / "config.json").write_text(config)
        if name != "no_tokenizer":
            (folder / name / "tokenizer.json").write_text("{}")
