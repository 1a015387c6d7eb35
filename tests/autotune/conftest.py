"""What several tests of autotuning share."""

from __future__ import annotations

import pytest

from sweeper.data import TokenizedData, prepare


@pytest.fixture(scope="module")
def rows(quick_config, tmp_path_factory) -> TokenizedData:
    return prepare(quick_config(), tmp_path_factory.mktemp("cache"))
