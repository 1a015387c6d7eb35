"""What tests of the drive room share: things that take seconds to start."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fake_gpus import FOUR, write_nvidia_smi
from ray_cluster import TOKEN, RayCluster


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[RayCluster]:
    """A Ray cluster of two nodes with one CPU each, which asks for a token."""
    with RayCluster(1, 1, token=TOKEN) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def fake_gpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which nvidia-smi tells of four GPUs."""
    folder = tmp_path_factory.mktemp("gpus")
    write_nvidia_smi(folder, FOUR)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def new_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of the command's own, whose ranks are new processes: a forked one holds less memory of its own,
    and a limit that is to be met is written for new ones."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
