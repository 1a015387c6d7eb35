"""Rows are tokenized in a process of their own, once, while Ray and the workers start."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from waiting import eventually

from sweeper.commands.preparation import preparing
from sweeper.data import prepare, prepared_folder, tokenized
from sweeper.errors import DataError


def test_the_rows_are_made_in_another_process_and_are_the_same_as_in_this_one(
    quick_config, tmp_path, monkeypatch
):
    config = quick_config()
    here = prepare(config, tmp_path / "here")
    monkeypatch.setattr(sys.modules["sweeper.data.prepare"], "_make", None)  # nobody makes rows here now
    with preparing(config, tmp_path / "there") as preparation:
        folder = preparation.folder()
        assert folder == prepared_folder(config, tmp_path / "there")
        there = tokenized(config, folder)  # waits
    preparation.check()
    assert (there.counts, there.notes, there.pad_id) == (here.counts, here.notes, here.pad_id)
    for mine, other in ((here.train, there.train), (here.eval, there.eval)):
        for name in ("ids", "mask", "starts"):
            assert np.array_equal(getattr(mine, name), getattr(other, name))


def test_what_is_wrong_with_the_data_is_told_as_by_whoever_needs_the_rows(quick_config, tmp_path):
    config = quick_config(max_seq_len=8)
    with pytest.raises(DataError) as here:
        prepare(config, tmp_path / "here")

    def is_told() -> bool:
        try:
            preparation.check()
        except DataError as there:
            return str(there) == str(here.value)
        return False

    with preparing(config, tmp_path / "there") as preparation:
        assert eventually(is_told)


def test_rows_that_are_there_are_not_made_again(quick_config, tmp_path):
    config = quick_config()
    made = prepare(config, tmp_path)
    before = made.folder.stat().st_mtime_ns
    with preparing(config, tmp_path) as preparation:
        assert preparation.folder() == made.folder
    assert made.folder.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [made.folder.name]


def test_a_process_that_is_ended_early_leaves_the_rows_to_whoever_needs_them(quick_config, tmp_path):
    config = quick_config()
    with preparing(config, tmp_path) as preparation:
        preparation.close()
        assert tokenized(config, preparation.folder()).train.rows
    preparation.check()
