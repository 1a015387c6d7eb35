"""What errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

import sweeper
from sweeper.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n  one\ntwo"), "one"),
        (OSError(), "OSError"),
        (ValueError("  "), "ValueError"),
        (KeyError("a"), "'a'"),
    ],
)
def test_an_error_without_a_message_is_called_by_its_kind(error, said):
    assert first_line(error) == said


def test_no_module_takes_the_first_line_of_a_message_that_may_be_empty():
    root = Path(sweeper.__file__).parent
    assert [file.name for file in root.rglob("*.py") if ".splitlines()[0]" in file.read_text()] == []
