"""A sweep's record at an address: what another machine has of it, and when it takes that."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sweeper.errors import SweepFolderError
from sweeper.remote import SweepRecord, address_of, bring_back, refuse_taken
from sweeper.space import SweepFolder


@pytest.fixture
def machines(tmp_path) -> tuple[str, SweepFolder, SweepFolder]:
    """The address of a sweep, and its folder on two machines."""
    first, second = (SweepFolder(tmp_path / name / "sweep") for name in ("first", "second"))
    return address_of(f"file://{tmp_path}/store/", first), first, second


def begun(folder: SweepFolder, address: str, driver: str, sweep: str = "an id") -> SweepRecord:
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.space_file.write_text("name: sweep")
    folder.facts_file.write_text("{}")
    note(folder.study_file, driver)
    record = SweepRecord(address, folder, folder.study_file)
    record.begin(driver, sweep)
    return record


def note(ledger: Path, what: str) -> None:
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("create table if not exists notes (what)")
        database.execute("insert into notes values (?)", (what,))
        database.commit()


def notes(ledger: Path) -> list[str]:
    with closing(sqlite3.connect(ledger)) as database:
        return [what for (what,) in database.execute("select what from notes")]


def test_another_machine_has_the_ledger_and_the_trials_as_they_were_saved_last(machines):
    address, first, second = machines
    record = begun(first, address, "a")
    first.trial_dir(3).mkdir(parents=True)
    first.trial_steps(3).write_text("step 1\n")
    note(first.study_file, "trial 3")
    record.save(3)
    note(first.study_file, "lost with the machine")
    assert bring_back(address, second)
    assert notes(second.study_file) == ["a", "trial 3"]
    assert second.space_file.read_text() == "name: sweep" and second.facts_file.read_text() == "{}"
    assert second.trial_steps(3).read_text() == "step 1\n"


def test_a_machine_that_was_the_last_to_drive_keeps_its_own_and_one_that_was_not_catches_up(machines):
    address, first, second = machines
    begun(first, address, "a")
    note(first.study_file, "not saved")
    assert not bring_back(address, first)
    assert notes(first.study_file) == ["a", "not saved"]
    bring_back(address, second)
    begun(second, address, "b")
    second.trial_dir(0).mkdir(parents=True)
    assert not bring_back(address, second)
    first.trial_checkpoints(7).mkdir(parents=True)
    assert bring_back(address, first)
    assert notes(first.study_file) == ["a", "b"] and not first.trial_dir(7).exists()


def test_passwords_and_what_is_not_the_drivers_word_stay_on_their_machine(machines, tmp_path):
    address, first, second = machines
    first.root.mkdir(parents=True)
    for file in (first.secrets_file, first.report, first.best_config):
        file.write_text("here")
    begun(first, address, "a")
    bring_back(address, second)
    sent = {one.name for one in (tmp_path / "store" / "sweep").iterdir()}
    assert sent == {"driver.json", "facts.json", "space.yaml", "study.db"}
    brought = {one.name for one in second.root.iterdir()} - {second.driver_file.name}
    assert brought == {"facts.json", "space.yaml", "study.db"}


def test_an_address_without_the_sweep_gives_nothing_and_one_with_it_refuses_another_one(machines):
    address, first, second = machines
    assert not bring_back(address, second) and not second.root.exists()
    refuse_taken(address, second)
    begun(first, address, "a")
    with pytest.raises(SweepFolderError, match="there is a sweep of this name already"):
        refuse_taken(address, second)


@pytest.mark.parametrize("was_at_an_address", [False, True])
def test_another_sweep_in_the_folder_is_not_replaced(machines, tmp_path, was_at_an_address):
    address, first, second = machines
    begun(first, address, "a")
    begun(second, f"file://{tmp_path}/elsewhere", "b", sweep="another id")
    if not was_at_an_address:
        second.driver_file.unlink()
    second.trial_dir(0).mkdir(parents=True)
    with pytest.raises(SweepFolderError, match="another one of this name"):
        bring_back(address, second)
    assert second.trial_dir(0).is_dir() and notes(second.study_file) == ["b"]


def test_a_machine_that_died_before_it_went_on_takes_the_sweep_over_again(machines):
    address, first, second = machines
    begun(first, address, "a")
    assert bring_back(address, second) and bring_back(address, second)
