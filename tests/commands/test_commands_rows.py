"""A sweep goes on where its rows come out as they did when it began, and is refused where they do not."""

from __future__ import annotations

import json
import shutil

import pytest

from sweeper.commands import resume_sweep
from sweeper.commands.rows import require_same_rows
from sweeper.data import fingerprint, gather_facts, prepare
from sweeper.errors import SweepFolderError
from sweeper.search import Evaluation, Ledger
from sweeper.space import SweepFolder, load_space
from sweeper.sweep.stored import store_space


@pytest.fixture
def sweep(tmp_path, write_space):
    """A sweep that has evaluated a trial: its space, its ledger, its folder, and its rows."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"{n}?", "completion": f"It is {n}."}) + "\n" for n in range(20))
    )
    space = load_space(write_space(tmp_path, data_path=str(rows)), gather=gather_facts)
    folder = SweepFolder(tmp_path / "sweep")
    store_space(space, folder)
    data = prepare(space.close(space.default_values()), folder.cache_dir)
    ledger = Ledger.create(folder.study_url, space)
    ledger.note_sweep(tags={"fingerprint.data": data.fingerprint})
    number = ledger.ask().number
    ledger.report(number, Evaluation(tokens=10, step=1, seconds=1.0, metrics={"eval/loss": 1.0}))
    return space, ledger, folder, rows


def checked(sweep) -> list[str]:
    said: list[str] = []
    require_same_rows(*sweep[:3], said.append)
    return said


def test_nothing_is_made_again_where_nothing_has_changed(sweep):
    shutil.rmtree(sweep[2].cache_dir)
    assert checked(sweep) == []
    assert not sweep[2].cache_dir.exists()


def test_another_version_that_makes_the_same_rows_goes_on(sweep, monkeypatch):
    monkeypatch.setattr(fingerprint, "_CACHE_VERSION", "another")
    assert checked(sweep)[-1] == "the rows are the same"


def test_other_rows_are_refused_with_how_many_and_the_way_on(sweep):
    _, _, folder, rows = sweep
    rows.write_text(rows.read_text().replace("It is 7.", "It is 8.").replace("It is 9.", "It is 8."))
    with pytest.raises(SweepFolderError, match=r"of 16 training rows . have other tokens") as caught:
        resume_sweep(folder.root)
    assert "start a new sweep" in str(caught.value)


def test_fewer_rows_are_refused_with_both_numbers(sweep):
    rows = sweep[3]
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:10]))
    with pytest.raises(SweepFolderError, match="8 training rows where there were 16; 2 held-out rows where"):
        checked(sweep)


def test_rows_that_cannot_be_compared_any_more_are_refused(sweep, monkeypatch):
    monkeypatch.setattr(fingerprint, "_CACHE_VERSION", "another")
    shutil.rmtree(sweep[2].cache_dir)
    with pytest.raises(SweepFolderError, match="not there any more to compare with"):
        checked(sweep)


def test_a_sweep_that_has_measured_nothing_yet_may_have_other_rows(sweep, tmp_path):
    space, _, folder, rows = sweep
    rows.write_text(rows.read_text().replace("7", "8"))
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'other.db'}", space)
    ledger.note_sweep(tags={"fingerprint.data": "gone"})
    assert checked((space, ledger, folder)) == []


def test_a_folder_of_a_newer_version_is_left_as_it_is(sweep):
    folder = sweep[2]
    newer = json.dumps({"format_version": 99, "sweeper": "9.1"})
    folder.format_file.write_text(newer)
    before = folder.study_file.read_bytes()
    with pytest.raises(SweepFolderError, match=r"format_version: 99[^$]*sweeper 9\.1"):
        resume_sweep(folder.root)
    assert folder.format_file.read_text() == newer
    assert folder.study_file.read_bytes() == before
