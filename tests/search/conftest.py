"""Spaces for the tests of this room: real files, read by the real loader, with made-up facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import MIXED, gather

from sweeper.space import Space, load_space


@pytest.fixture
def space_of(tmp_path: Path) -> Callable[..., Space]:
    """Makes a space from the ``training`` section of a file and from overrides."""

    def make(training: str = MIXED, *overrides: str, name: str = "trying") -> Space:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"name: {name}\nmodel_path: m\ndata_path: d.jsonl\ntraining:{training}")
        return load_space(path, overrides=overrides, gather=gather)

    return make


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"
