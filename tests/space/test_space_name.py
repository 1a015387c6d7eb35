"""A sweep may be called in any script; what is no file name, or hides what it is, is refused."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from space_helpers import load_text

from sweeper.errors import SpaceFileError
from sweeper.space import json_schema

GOOD = ["学习率扫描", "Überprüfung_2", "тест-3.1", "हिन्दी", "ไทยที่", "a", "9", "名" * 80, "a" * 100]
BAD = {
    "a separator": "学习/率",
    "the folder above": "../率",
    "a hidden file": ".率",
    "an option": "-率",
    "a mark without its letter": "\u0301a",
    "a blank": "学习 率",
    "a line's end": "a\n",
    "what turns text around": "a\u202eb",
    "what cannot be seen": "a\u200bb",
    "a superscript": "m²",
    "more bytes than a file name has, with what is appended": "名" * 81,
    "more than a hundred characters": "a" * 101,
    "nothing": "",
}


def named(tmp_path: Path, name: str):
    """JSON is YAML."""
    return load_text(tmp_path, "training: {lr: auto}\n", overrides=[f"name={json.dumps(name)}"])


@pytest.mark.parametrize("name", GOOD)
def test_a_name_in_any_script_is_a_folders_name(tmp_path, name):
    space = named(tmp_path, name)
    assert space.name == name and space.sweep_dir == Path("sweeps") / name
    (tmp_path / f"{name}-autotune").mkdir()
    assert re.search(json_schema()["properties"]["name"]["pattern"], name)


def test_a_name_is_one_however_it_was_typed(tmp_path):
    assert named(tmp_path, unicodedata.normalize("NFD", "Überprüfung")).name == "Überprüfung"


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_name_is_refused(tmp_path, case):
    said = "letters, digits, .* of any script|no path separators|without control characters"
    with pytest.raises(SpaceFileError, match=said):
        named(tmp_path, BAD[case])
