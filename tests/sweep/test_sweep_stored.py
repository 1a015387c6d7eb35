"""What a sweep's folder keeps of addresses, and that it can be read again from anywhere."""

from __future__ import annotations

import stat
from types import SimpleNamespace

import pytest

from sweeper.errors import SweepFolderError, UserError
from sweeper.space import Facts, SweepFolder, load_space, mark_format
from sweeper.sweep.stored import store_space, stored_space, study_url, with_noted_concurrency
from sweeper.track import tracking_uri

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
MLFLOW = "postgresql://me:s%40cretive@db/mlflow"
STORAGE = "mysql+pymysql://me:s%40cretive@db/ledger"


@pytest.fixture
def store(tmp_path, write_space):
    """Stores a sweep in a folder, as its driver does at the beginning."""

    def make(**changes):
        space = load_space(write_space(tmp_path, **changes), gather=lambda _: FACTS)
        folder = SweepFolder(tmp_path / "sweep")
        store_space(space, folder)
        return space, folder

    return make


def test_addresses_come_back_whole_and_only_the_private_file_holds_them(store):
    space, folder = store(tracking__mlflow_uri=MLFLOW, search__storage=STORAGE)
    assert stored_space(folder) == space
    assert stat.S_IMODE(folder.secrets_file.stat().st_mode) == 0o600
    holders = [file for file in folder.root.rglob("*") if b"cretive" in file.read_bytes()]
    assert holders == [folder.secrets_file]
    assert "***" in folder.space_file.read_text()


def test_without_a_password_there_is_no_private_file(store):
    space, folder = store(tracking__mlflow_uri="http://tracking:5000", search__storage="postgresql://db/x")
    assert not folder.secrets_file.exists()
    assert stored_space(folder) == space


def test_a_variable_for_one_folder_says_nothing_about_another(store, monkeypatch):
    monkeypatch.setenv("SWEEPER_STORAGE", STORAGE)
    space, folder = store()
    assert study_url(stored_space(folder), folder) == folder.study_url
    assert stored_space(folder) == space


def test_a_password_that_did_not_come_along_is_asked_for_where_it_is_needed(store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    _, folder = store(tracking__mlflow_uri=MLFLOW, search__storage=STORAGE)
    folder.secrets_file.unlink()
    space = stored_space(folder)
    with pytest.raises(SweepFolderError, match="SWEEPER_STORAGE"):
        study_url(space, folder)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        tracking_uri(space.settings, folder.root)
    monkeypatch.setenv("SWEEPER_STORAGE", STORAGE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", MLFLOW)
    assert study_url(space, folder) == STORAGE
    assert tracking_uri(space.settings, folder.root) == MLFLOW


@pytest.mark.parametrize("text", ["{", "1", '{"search.storage": "postgresql://me:s@cretive@db'])
def test_a_private_file_that_is_broken_is_named_without_its_content(store, text):
    _, folder = store(search__storage=STORAGE)
    folder.secrets_file.write_text(text)
    with pytest.raises(SweepFolderError, match=r"secrets\.json") as caught:
        stored_space(folder)
    assert "cretive" not in str(caught.value)


def test_a_file_named_from_one_folder_is_found_from_another(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, folder = store(search__storage="sqlite:///ledgers.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert study_url(stored_space(folder), folder) == f"sqlite:///{tmp_path}/ledgers.db"


@pytest.mark.parametrize("damaged", ['{"train_rows": "many"}', "[]", "{", "\\xff"])
def test_facts_that_were_damaged_are_told_as_such(store, damaged):
    _, folder = store()
    folder.facts_file.write_text(damaged)
    with pytest.raises(SweepFolderError, match="facts cannot be read"):
        stored_space(folder)


def test_a_sweep_that_began_before_there_was_a_number_goes_on_learning_what_the_template_writes(store):
    _, folder = store()
    assert not stored_space(folder).settings.learn_template_text
    folder.format_file.unlink()
    assert stored_space(folder).settings.learn_template_text
    mark_format(folder)
    assert stored_space(folder).settings.learn_template_text


def test_a_sweep_whose_trials_side_by_side_were_measured_goes_on_with_the_fewest_that_were_as_fast(store):
    speeds = {1: 100.0, 2: 199.0, 4: 200.0, 8: None}
    tried = [{"places": count, "tokens_per_s": speed} for count, speed in speeds.items()]
    space, _ = store(resources={"max_concurrent": "auto"})
    measured, new = (
        SimpleNamespace(sweep_attributes=lambda noted=noted: noted)
        for noted in ({"places": {"tried": tried}}, {})
    )
    assert with_noted_concurrency(space, measured).closed["resources.max_concurrent"] == 2
    assert with_noted_concurrency(space, new) == space
