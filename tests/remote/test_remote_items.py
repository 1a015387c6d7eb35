"""Folders at an address are there whole or not at all, on a disk and in a bucket."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.errors import CheckpointError, MissingDependencyError, TrialFailedError, UserError
from sweeper.remote import DriverFiles, NodeFiles, RemoteFolder, Shells, TrialExchange, copies_here, moved
from sweeper.remote.items import commit, is_whole, pull, push, push_part
from sweeper.remote.place import SCRATCH
from sweeper.space import SweepFolder
from sweeper.training import Job, newest_checkpoint, states_in

TRIAL = "trials/3"
STATE = f"{TRIAL}/checkpoints/step-00000008"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a bucket of a server on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, "testing")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="sweeps")
        yield "s3://sweeps"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def remote(request, tmp_path) -> RemoteFolder:
    if request.param == "file":
        return RemoteFolder(f"file://{tmp_path}/store")
    return RemoteFolder(f"{request.getfixturevalue('s3')}/{tmp_path.name}/first")


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def content(folder: Path) -> dict[str, str]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_text() for one in files}


def test_an_address_that_can_be_used_passes_the_check_and_keeps_nothing(remote):
    remote.check()
    assert remote.sizes("") == {}
    assert pickle.loads(pickle.dumps(remote)).address == remote.address


def test_a_state_is_there_when_all_of_its_parts_are_and_not_before(remote, tmp_path):
    first = written(tmp_path / "node1", progress="step 8", state__rank0="0" * 9)
    second = written(tmp_path / "node2", state__rank1="1" * 9)
    shells = Shells(remote, tmp_path / "shells")
    parts = [push_part(remote, first, STATE)]
    shells.refresh(TRIAL)
    assert not pull(remote, STATE, tmp_path / "here")
    assert not states_in(tmp_path / "shells" / TRIAL / "checkpoints")
    parts.append(push_part(remote, second, STATE))
    commit(remote, STATE, parts)
    assert pull(remote, STATE, tmp_path / "here")
    assert content(tmp_path / "here") == content(first) | content(second)
    shells.refresh(TRIAL)
    assert states_in(tmp_path / "shells" / TRIAL / "checkpoints").keys() == {8}


def test_the_marker_is_written_last_and_goes_first(remote, tmp_path, monkeypatch):
    order = []
    write, remove = RemoteFolder._write, RemoteFolder.remove
    monkeypatch.setattr(
        RemoteFolder, "_write", lambda self, name, how: (order.append(f"+{name}"), write(self, name, how))[1]
    )
    monkeypatch.setattr(
        RemoteFolder,
        "remove",
        lambda self, names: remove(self, [one for one in names if order.append(f"-{one}") is None]),
    )
    push(remote, written(tmp_path / "here", a="1", b="2"), STATE)
    shells = Shells(remote, tmp_path / "shells")
    shells.refresh(TRIAL)
    (tmp_path / "shells" / STATE).rename(tmp_path / "gone")
    shells.refresh(TRIAL)
    files = [f"{STATE}/a", f"{STATE}/b"]
    assert [one[1:] for one in order] == [*files, f"{STATE}.whole", f"{STATE}.whole", *files]
    assert remote.sizes(TRIAL) == {}


def test_a_shell_says_how_large_a_state_is_and_takes_no_room(remote, tmp_path):
    place = json.dumps({"objective": 1.5})
    state = written(tmp_path / "node", weights="0" * 2**20)
    (state / "progress.json").write_text(place)
    push(remote, state, STATE)
    shells = Shells(remote, tmp_path / "shells")
    shells.refresh("trials")
    newest = newest_checkpoint(tmp_path / "shells" / TRIAL / "checkpoints")
    assert newest is not None and (newest / "progress.json").read_text() == place
    files = [one.stat() for one in newest.iterdir()]
    assert sum(one.st_size for one in files) >= 2**20
    assert sum(one.st_blocks * 512 for one in files) < 2**16
    shells.fill(STATE)
    assert content(newest) == content(state)


def test_what_one_side_removes_is_gone_on_the_other(remote, tmp_path):
    driver, coordinator = (Shells(remote, tmp_path / name) for name in ("driver", "coordinator"))
    for step in (8, 16):
        push(remote, written(tmp_path / f"{step}", weights="0"), f"{TRIAL}/checkpoints/step-{step:08d}")
    driver.refresh("trials")
    coordinator.refresh(TRIAL)
    assert states_in(tmp_path / "driver" / TRIAL / "checkpoints").keys() == {8, 16}
    (tmp_path / "coordinator" / STATE).rename(tmp_path / "gone")
    coordinator.refresh(TRIAL)
    driver.refresh("trials")
    assert states_in(tmp_path / "driver" / TRIAL / "checkpoints").keys() == {16}
    assert not is_whole(remote, STATE)


def test_what_a_killed_writer_has_left_is_swept_up_and_nothing_else(remote, tmp_path):
    push_part(remote, written(tmp_path / "half", weights="0"), STATE)
    push(remote, written(tmp_path / "whole", weights="0"), f"{TRIAL}/left/step-00000004")
    remote.write(f"{TRIAL}/log.txt", b"said")
    Shells(remote, tmp_path / "shells").sweep_up(TRIAL)
    whole = f"{TRIAL}/left/step-00000004"
    assert remote.sizes(TRIAL).keys() == {f"{whole}/weights", f"{whole}.whole", f"{TRIAL}/log.txt"}


def test_a_state_that_was_written_anew_elsewhere_replaces_the_one_that_lies_here(remote, tmp_path):
    here = written(tmp_path / "here", weights="old")
    push(remote, here, STATE)
    assert pull(remote, STATE, here) and content(here) == {"weights": "old"}
    commit(remote, STATE, [push_part(remote, written(tmp_path / "elsewhere", weights="new"), STATE)])
    assert pull(remote, STATE, here)
    assert content(here) == {"weights": "new"}


# A driver, a coordinator and nodes ----------------------------------------------------------------


@pytest.fixture
def disk(tmp_path) -> RemoteFolder:
    return RemoteFolder(f"file://{tmp_path}/store")


@pytest.fixture
def two_disks(disk, tmp_path, monkeypatch, quick_config):
    """A driver with its folder, and a node that does not see it."""
    monkeypatch.setenv(SCRATCH, str(tmp_path / "node-disk"))
    folder = SweepFolder(tmp_path / "driver-disk" / "first")
    rows = written(folder.cache_dir / "f00d", ids="1 2 3")
    model = written(tmp_path / "driver-disk" / "tiny", config="{}", nested__weights="0101")
    config = quick_config().model_copy(update={"model_path": str(model)})
    driver = DriverFiles(disk.address, folder, "an-id")
    driver.begin([config], [rows])
    yield driver, folder, model, config
    driver._is_over.set()


def test_model_and_rows_reach_a_node_and_are_sent_once(two_disks, disk, tmp_path, monkeypatch):
    driver, _, model, config = two_disks
    files = driver.of_job()
    NodeFiles().begin(files, TRIAL, [], ["cache/f00d"])
    assert content(Path(copies_here(files)[str(model)])) == content(model)
    assert content(tmp_path / "node-disk" / "an-id" / "cache" / "f00d") == {"ids": "1 2 3"}
    moved_model = model.rename(model.parent.parent / "tiny")  # another path, the same content
    sent = []
    monkeypatch.setattr(RemoteFolder, "put", lambda self, local, name: sent.append(name))
    second = DriverFiles(disk.address, SweepFolder(tmp_path / "driver-disk" / "second"), "another-id")
    second.begin([config.model_copy(update={"model_path": str(moved_model)})], [])
    assert not sent
    assert list(second.of_job().copies.values()) == list(files.copies.values())


def test_what_a_trial_prints_reaches_the_drivers_folder_and_goes_on_on_another_node(
    two_disks, tmp_path, monkeypatch
):
    driver, folder, *_ = two_disks
    node = NodeFiles()
    node.begin(driver.of_job(), TRIAL, [], [])
    written(tmp_path / "node-disk" / "an-id" / TRIAL, **{"log.txt": "first\n", "log-rank-1.txt": "second\n"})
    node.flush()
    monkeypatch.setenv(SCRATCH, str(tmp_path / "other-disk"))
    NodeFiles().begin(driver.of_job(), TRIAL, [], [])
    assert (tmp_path / "other-disk" / "an-id" / TRIAL / "log.txt").read_text() == "first\n"
    driver.end()
    assert content(folder.trial_dir(3)) == {"log.txt": "first\n", "log-rank-1.txt": "second\n"}


def test_a_state_that_never_arrived_is_not_taken_for_one_by_the_trial_that_begins_again(two_disks, tmp_path):
    driver, *_ = two_disks
    node, disk = NodeFiles(), tmp_path / "node-disk" / "an-id"
    node.begin(driver.of_job(), TRIAL, [], [])
    newer = f"{TRIAL}/checkpoints/step-00000016"
    push(driver.of_job().open(), written(disk / STATE, weights="0"), STATE)
    written(disk / newer, weights="1")
    node.begin(driver.of_job(), TRIAL, [STATE], [])
    assert (disk / STATE).is_dir() and not (disk / newer).exists()


def job_of(driver: DriverFiles, folder: SweepFolder, config) -> Job:
    return Job(
        config=config,
        cache_dir=folder.cache_dir,
        data_dir=folder.cache_dir / "f00d",
        log_file=folder.trial_log(3),
        checkpoints=folder.trial_checkpoints(3),
        stop_file=folder.stop_file,
        pause_file=folder.trial_pause(3),
        files=driver.of_job(),
    )


def exchange_of(driver: DriverFiles, folder: SweepFolder) -> TrialExchange:
    return TrialExchange(driver.of_job(), folder.trial_dir(3), (folder.stop_file, folder.trial_pause(3)))


def test_a_trial_hears_what_the_driver_wants_and_that_it_wants_it_no_more(two_disks):
    driver, folder, _, config = two_disks
    exchange = exchange_of(driver, folder)
    job = moved(job_of(driver, folder, config), exchange.files, exchange.root)
    assert not job.pause_is_wanted()
    driver.tell(folder.stop_file)
    driver.tell(folder.trial_pause(3))
    exchange.hear()
    assert job.pause_is_wanted() and job.pause_file.exists()
    driver.withdraw(folder.stop_file)
    exchange.hear()
    assert not job.pause_is_wanted() and job.pause_file.exists()
    exchange.close()


def test_the_driver_knows_a_state_once_it_is_committed_and_a_lost_driver_commits_none(
    two_disks, disk, tmp_path
):
    driver, folder, _, config = two_disks
    exchange, node = exchange_of(driver, folder), NodeFiles()
    node.begin(driver.of_job(), TRIAL, [], [])
    written(tmp_path / "node-disk" / "an-id" / STATE, weights="0")
    parts = [node.part(STATE)]
    driver.watch(3)
    assert newest_checkpoint(folder.trial_checkpoints(3)) is None
    exchange.commit(STATE, parts)
    driver.watch(3)
    assert newest_checkpoint(folder.trial_checkpoints(3)) == folder.trial_checkpoints(3) / "step-00000008"
    again = DriverFiles(disk.address, folder, "an-id")
    again.begin([config], [])
    with pytest.raises(TrialFailedError, match="another driver"):
        exchange.commit(f"{TRIAL}/checkpoints/step-00000016", parts)
    exchange.close()


def test_a_trial_whose_driver_was_followed_by_another_one_finds_its_marks_gone(two_disks, disk, tmp_path):
    driver, folder, _, config = two_disks
    node = NodeFiles()
    node.begin(driver.of_job(), TRIAL, [], [])
    marks = tmp_path / "node-disk" / "an-id" / "logs" / "processes" / driver.of_job().driver
    written(marks, **{"node-1": "0"})
    node._end_where_followed()
    assert list(marks.iterdir())
    DriverFiles(disk.address, folder, "an-id").begin([config], [])
    node._end_where_followed()
    assert not list(marks.iterdir())


def test_a_storage_that_is_away_costs_a_state_and_says_so(two_disks, monkeypatch):
    driver, folder, *_ = two_disks
    exchange = exchange_of(driver, folder)
    monkeypatch.setattr(RemoteFolder, "_place", lambda self, name: 1 / 0)
    with pytest.raises(CheckpointError, match="cannot be read"):
        exchange.commit(STATE, [])
    exchange.close()


# What is said of an address that cannot be used ---------------------------------------------------


def test_an_address_that_cannot_be_written_is_told_with_what_to_do():
    with pytest.raises(UserError, match="cannot be written") as refused:
        RemoteFolder("file:///proc/nowhere").check()
    assert "resources.files: file:///proc/nowhere" in str(refused.value)
    with pytest.raises(UserError, match="fsspec has no files there"):
        RemoteFolder("nowhere://bucket")


def test_a_bucket_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "s3fs" else object())
    with pytest.raises(MissingDependencyError, match=r"pip install 'sweeper\[s3\]'"):
        RemoteFolder("s3://sweeps/first")


def test_without_the_setting_nobody_imports_fsspec():
    look = (
        "import sys, sweeper.remote, sweeper.sweep.recorder, sweeper.commands; print('fsspec' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False"]
