from __future__ import annotations

from pathlib import Path

import pytest
from recommend_helpers import make_space

from sweeper.space import Space


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return make_space(tmp_path)
