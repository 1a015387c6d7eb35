"""Loading space files from text, with facts that need no model and no data."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.errors import Problem, SpaceFileError
from sweeper.space import Facts, Settings, Space, load_space

FACTS = Facts(
    train_rows=2000,
    eval_rows=100,
    accelerator="cpu",
    devices=1,
    cpus=8,
    hidden_size=576,
    layers=30,
    max_position_embeddings=8192,
)
GPU_FACTS = replace(FACTS, accelerator="cuda", devices=8, cpus=64)

HEAD = "name: t\nmodel_path: m\ndata_path: d\n"
"""The required keys; what follows begins on line 4."""


def load_text(
    folder: Path, text: str | bytes, *, overrides: Sequence[str] = (), facts: Facts = FACTS, head: str = HEAD
) -> Space:
    """The space of a file of this text, the required keys put before it."""
    path = folder / "s.yaml"
    if isinstance(text, str):
        path.write_text(head + textwrap.dedent(text), encoding="utf-8")
    else:
        path.write_bytes(text)

    def gather(settings: Settings) -> Facts:
        return facts

    return load_space(path, overrides=overrides, gather=gather)


def problems_of(folder: Path, text: str | bytes, **options: Any) -> list[Problem]:
    """What is wrong with a file, its places without the folder's name."""
    try:
        load_text(folder, text, **options)
    except SpaceFileError as error:
        return [replace(one, where=one.where.replace(f"{folder}/", "")) for one in error.problems]
    raise AssertionError("the file has no problem")


def assert_told(folder: Path, text: str, position: str, rule: str, remedy: str) -> None:
    """That a file's one fault is told at this line:column, with these parts of its rule and remedy."""
    found = problems_of(folder, text)
    assert [one.where for one in found] == [f"s.yaml:{position}"]
    assert rule in found[0].rule
    assert remedy in found[0].remedy
