"""The instruction set is what its generator writes, and it is fit to be swept over."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from quickstart_maker.instructions import FAMILIES, ROWS_PER_FAMILY, instruction_rows, write_instructions
from quickstart_maker.words import NOUNS, number_in_words, plural, with_article

from sweeper.quickstart import DATA_FILE


def _committed_rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in DATA_FILE.read_text(encoding="utf-8").splitlines()]


def test_the_generator_writes_the_committed_file_byte_for_byte(tmp_path: Path) -> None:
    written = tmp_path / "new" / "train.jsonl"
    write_instructions(written)
    assert written.read_bytes() == DATA_FILE.read_bytes()
    assert [path.name for path in written.parent.iterdir()] == ["train.jsonl"]


def test_every_row_has_a_prompt_a_completion_and_a_family() -> None:
    for row in _committed_rows():
        assert list(row) == ["prompt", "completion", "family"]
        assert all(value and value == value.strip() for value in row.values())


def test_there_are_two_thousand_rows_of_many_families_in_less_than_a_megabyte() -> None:
    rows = _committed_rows()
    assert len(rows) >= 2000
    assert Counter(row["family"] for row in rows) == dict.fromkeys(FAMILIES, ROWS_PER_FAMILY)
    assert len(FAMILIES) >= 12
    assert DATA_FILE.stat().st_size < 1_000_000


def test_no_prompt_occurs_twice() -> None:
    prompts = Counter(row["prompt"] for row in _committed_rows())
    assert prompts.most_common(1)[0][1] == 1


def test_another_seed_gives_other_rows() -> None:
    assert instruction_rows(seed=1)[:20] != instruction_rows(seed=2)[:20]


def test_sums_and_orders_in_the_rows_are_right() -> None:
    value = {number_in_words(number): number for number in range(100)}
    for row in _committed_rows():
        answer = row["completion"].rstrip(".")
        if row["family"] == "add":
            terms, total = answer.removeprefix("The sum of ").split(" is ")
            assert sum(value[term] for term in terms.split(" and ")) == value[total]
        if row["family"] in {"sort_words", "sort_numbers"}:
            items = answer.removeprefix("In order: ").split(", ")
            assert sorted(items) == sorted(row["prompt"].split(": ")[1].split(", "))
            ordered = sorted(items) if row["family"] == "sort_words" else sorted(items, key=int)
            assert items == ordered


def test_numbers_are_written_as_english_writes_them() -> None:
    spoken = {0: "zero", 13: "thirteen", 40: "forty", 99: "ninety-nine", 100: "one hundred"}
    spoken |= {305: "three hundred and five", 999: "nine hundred and ninety-nine"}
    assert {number: number_in_words(number) for number in spoken} == spoken


def test_plurals_and_articles_follow_the_sound() -> None:
    assert [plural(noun) for noun in ("fox", "cherry", "monkey", "brush")] == [
        "foxes",
        "cherries",
        "monkeys",
        "brushes",
    ]
    assert [with_article(noun) for noun in ("apple", "pear", "hour", "euro")] == [
        "an apple",
        "a pear",
        "an hour",
        "a euro",
    ]
    assert len(set(NOUNS)) == len(NOUNS)


def test_the_door_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, sweeper.quickstart; print({'torch', 'transformers'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"
