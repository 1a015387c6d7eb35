"""`sweeper train`: interrupted, killed and short of memory, it ends in the same model."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
from driver_process import Driver

from sweeper.commands import train_config
from sweeper.space import SweepFolder
from sweeper.training.ranks.processes import is_running, marked

pytestmark = pytest.mark.usefixtures("running_ray")

TRAINING = {
    "lr": 1e-3,
    "scheduler": "cosine",
    "epochs": 12,
    "global_batch_size": 96,
    "per_device_batch_size": 8,
    "max_seq_len": 96,
}


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, write_space):
    return write_space(tmp_path_factory.mktemp("config"), training=TRAINING)


@pytest.fixture(scope="module")
def undisturbed(config_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    train_config(config_file, output_dir=folder)
    return weights(folder)


def test_the_same_command_goes_on_after_a_signal_and_ends_in_the_same_weights(
    config_file, undisturbed, tmp_path, monkeypatch
):
    """SIGHUP comes to all of a terminal's processes when it is closed, Ray's among them."""
    target = tmp_path / "model"
    command = ("train", str(config_file), "--output-dir", str(target))
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        driver = Driver(*command).until("step 0/")
    os.killpg(driver.process.pid, signal.SIGHUP)
    assert driver.end() == 130, driver.said
    assert "the same command goes on" in driver.said and not target.exists()
    assert "the same command goes on" in SweepFolder(tmp_path / "model-train").driver_log.read_text()
    assert not any(map(is_running, marked(SweepFolder(tmp_path / "model-train").processes_dir)))
    again = Driver(*command).until("going on from step-")
    assert again.end() == 0, again.said
    assert weights(target) == undisturbed


def test_memory_that_runs_out_is_told_and_splits_the_batch(write_space, few_rows, tmp_path, new_ranks):
    file = write_space(
        tmp_path,
        data_path=str(few_rows),
        training=TRAINING | {"per_device_batch_size": 96, "epochs": 1},
        resources={"max_concurrent": 1, "memory_limit_gib": 0.6},
    )
    driver = Driver("train", file, "--output-dir", tmp_path / "model")
    assert driver.end() == 0, driver.said
    assert "out of memory, now per_device_batch_size 48, gradient_accumulation_steps 2" in driver.said
    assert (tmp_path / "model" / "config.json").is_file()
