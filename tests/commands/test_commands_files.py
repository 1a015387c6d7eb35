"""Real sweeps whose nodes share no files: each has a disk of its own, and an address between them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driver_process import Driver, facts_of

from sweeper.commands import SweepResult, load_sweep, run_sweep
from sweeper.errors import SweepFolderError
from sweeper.quickstart import MODEL_DIR
from sweeper.remote import RemoteFolder
from sweeper.search import TrialState
from sweeper.space import SweepFolder

pytestmark = pytest.mark.slow

ROWS = {"parallel": {"dp": 2}, "objective": {"evaluations": 2}, "checkpoints": {"model": "all"}}


@pytest.fixture(scope="module")
def cluster(two_nodes):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_ADDRESS": two_nodes.address, **two_nodes.token}.items():
            patch.setenv(name, value)
        yield two_nodes


def run(file: Path, out: Path, *words: str) -> SweepResult:
    """By the command: a process keeps to the token of a cluster that it has talked to."""
    driver = Driver("run", file, "--out", out, *words)
    assert driver.end() == 0, driver.said
    return load_sweep(out)


@pytest.fixture(scope="module")
def apart(cluster, tmp_path_factory, write_space):
    """Of two ranks, one on each node, with a model that only the driver's machine has."""
    here = tmp_path_factory.mktemp("driver")
    model = shutil.copytree(MODEL_DIR, here / "model")
    file = write_space(
        here,
        model_path=str(model),
        resources={"max_concurrent": 1, "files": f"file://{tmp_path_factory.mktemp('store')}"},
        **ROWS,
    )
    return file, run(file, here / "sweep", "--set", "search.trials=2")


def test_its_end_is_that_of_a_sweep_in_a_shared_folder_to_the_last_bit(apart, tmp_path):
    file, sweep = apart
    assert [one.state for one in sweep.trials] == [TrialState.COMPLETE] * 2
    words = ("--set", "search.trials=2", "--set", "resources.files=null")
    shared = run(file, tmp_path / "shared", *words)
    assert facts_of(sweep) == facts_of(shared)
    for trial in sweep.trials:
        ours, theirs = (one.folder.trial_model(trial.number) for one in (sweep, shared))
        assert sorted(file.name for file in ours.iterdir()) == sorted(file.name for file in theirs.iterdir())
        for made in theirs.iterdir():
            assert (ours / made.name).read_bytes() == made.read_bytes(), made.name


def test_the_drivers_folder_has_the_models_and_what_was_printed_and_no_states(apart):
    _, sweep = apart
    for trial in sweep.trials:
        logs = [one.read_text() for one in sorted(sweep.folder.trial_dir(trial.number).glob("log*.txt"))]
        assert ["rank 1 of 2" in logs[0], "rank 0 of 2" in logs[1]] == [True, True]
        assert not any(sweep.folder.trial_checkpoints(trial.number).glob("step-*"))


def test_each_node_had_a_copy_of_the_model_and_keeps_nothing_else(apart, cluster):
    for disk in cluster.disks:
        assert [one.name for one in disk.iterdir()] == ["copies"]
        assert len([*disk.glob("copies/*/model/config.json")]) == 1


def test_another_machine_takes_the_sweep_over_and_goes_on_with_it(apart, tmp_path):
    file, sweep = apart
    folder = SweepFolder(tmp_path / "sweep")
    longer = run(file, folder.root, "--resume", "--set", "search.trials=3")
    assert facts_of(longer)[:2] == facts_of(sweep) and len(longer.trials) == 3
    assert "taking over from another machine" in folder.driver_log.read_text()


def test_a_new_sweep_of_the_same_name_is_refused(apart, tmp_path):
    file, _ = apart
    with pytest.raises(SweepFolderError, match="there is a sweep of this name already"):
        run_sweep(file, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "space.yaml").exists()


def test_what_is_not_whole_yet_at_an_address_is_refused_by_its_name(write_space, tmp_path):
    store = tmp_path / "store"
    file = write_space(
        tmp_path,
        resources={"max_concurrent": 1, "files": f"file://{store}"},
        evaluation={"retention": "auto"},
    )
    with pytest.raises(ValueError, match="what is retained is found by the first trial"):
        run_sweep(file, out=tmp_path / "sweep")
    assert RemoteFolder(f"file://{store}").sizes("") == {}
