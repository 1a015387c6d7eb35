"""A real LR range test of the packaged model: by itself, and before a sweep."""

from __future__ import annotations

import itertools
import json
import signal

import pytest
from driver_process import Driver

from sweeper.commands import run_sweep
from sweeper.space import LogUniform, SweepFolder
from sweeper.sweep.stored import stored_space
from sweeper.training.ranks.processes import is_running, marked

pytestmark = pytest.mark.usefixtures("running_ray")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, write_space):
    folder = tmp_path_factory.mktemp("tested")
    file = write_space(
        folder,
        data_path="builtin:quickstart",
        eval_data=0.05,
        training={
            "lr": {"log_uniform": [1e-4, 1e-1], "range_test": True},
            "scheduler": "cosine",
            "epochs": 0.1,
            "per_device_batch_size": 16,
            "max_seq_len": 128,
        },
        objective={"evaluations": 1},
        search__trials=2,
        search__sampler="random",
        checkpoints={"model": "none"},
        resources={
            "max_concurrent": 1,
            "cpus_per_rank": 1,
        },  # two threads wait for each other on a busy machine
    )
    return run_sweep(file, out=folder / "sweep")


@pytest.fixture(scope="module")
def numbers(sweep):
    return json.loads(sweep.folder.lr_range_file.read_text())


def test_the_bracket_holds_the_rates_that_are_known_to_be_good_and_none_that_are_far_too_high(numbers):
    bracket = numbers["bracket"]
    assert bracket["low"] < 5e-4 and 3e-3 < bracket["high"] < 2e-2
    assert bracket["low"] < bracket["steepest"] < bracket["high"] < numbers["diverged_at"] <= 1e-1


def test_the_rate_rises_by_one_factor_from_far_below_the_practice_and_stops_once_it_is_lost(numbers):
    lrs = numbers["lrs"]
    factors = [after / before for before, after in itertools.pairwise(lrs)]
    assert factors == pytest.approx([10 ** (6 / 100)] * len(factors))
    assert lrs[0] < 1e-6 and lrs[-1] > numbers["diverged_at"]
    assert len(lrs) == len(numbers["losses"]) < 100
    assert numbers["losses"][0] == pytest.approx(numbers["untrained"], abs=0.01)


def test_the_sweep_searches_what_its_range_and_the_bracket_have_in_common(sweep, numbers):
    searched = sweep.space.dimension("lr").open_value
    assert searched == LogUniform(1e-4, float(f"{numbers['bracket']['high']:.1e}"))
    assert len(sweep.trials) == 2
    assert all(searched.low <= trial.values["lr"] <= searched.high for trial in sweep.trials)


def test_the_stored_file_has_the_range_and_asks_for_no_test(sweep):
    assert stored_space(sweep.folder) == sweep.space
    assert sweep.space.range_test is None
    assert "range_test" not in sweep.folder.space_file.read_text()


def test_its_picture_is_in_the_folder_and_nothing_is_left_of_its_model(sweep):
    assert sweep.folder.lr_range_picture.read_bytes().startswith(b"\x89PNG")
    files = [file.name for file in sweep.folder.root.rglob("*") if file.is_file()]
    assert not [name for name in files if name.endswith((".safetensors", ".pt", ".bin"))]


def test_memory_that_runs_out_splits_its_batch_and_a_signal_ends_it_without_a_result(
    write_space, few_rows, tmp_path, new_ranks
):
    file = write_space(
        tmp_path,
        data_path=str(few_rows),
        training={
            "lr": 1e-3,
            "scheduler": "cosine",
            "epochs": 1,
            "per_device_batch_size": 96,
            "max_seq_len": 96,
        },
        resources={"max_concurrent": 1, "memory_limit_gib": 0.6},
    )
    folder = SweepFolder(tmp_path / "test")
    smaller = "out of memory, now per_device_batch_size 48, gradient_accumulation_steps 2"
    driver = Driver("lr-range", file, "--out", folder.root).until(smaller)
    driver.process.send_signal(signal.SIGTERM)
    assert driver.end() == 130, driver.said
    assert "give the same command again" in driver.said
    assert "give the same command again" in folder.driver_log.read_text()
    assert not any(map(is_running, marked(folder.processes_dir)))
    assert not folder.lr_range_file.exists() and not folder.lr_range_picture.exists()
