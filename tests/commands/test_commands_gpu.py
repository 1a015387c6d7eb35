"""Sweeps on a GPU: trials share it, memory that runs out splits the batch, a killed rank leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from driver_process import Driver
from on_gpu import GPU_TESTS, HAS_GPU
from waiting import eventually

from sweeper.commands import open_sweep, run_sweep
from sweeper.search import TrialState
from sweeper.space import SweepFolder
from sweeper.training.ranks.processes import is_running, marked

pytestmark = [*GPU_TESTS, pytest.mark.slow]


@pytest.fixture(autouse=True)
def own_ray(monkeypatch):
    """A real Ray of the command's own, with new processes."""
    for name in ("RAY_ADDRESS", "FORK_WORKERS_FROM"):
        monkeypatch.delenv(name, raising=False)


def half(**more) -> dict:
    """Of the GPU for each of two trials."""
    return {"max_concurrent": 2, "gpus_per_rank": 0.5 if HAS_GPU else 0, "cpus_per_rank": 1, **more}


def used_mib() -> int:
    """Of the first GPU, by its driver."""
    if not HAS_GPU:
        return 0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)


def test_trials_side_by_side_on_one_gpu_come_to_what_they_come_to_alone(write_space, tmp_path):
    precision = {"zero_stage": 0, "precision": "bf16" if HAS_GPU else "fp32"}
    shared = {"deepspeed": precision, "search__trials": 4, "search__sampler": "grid"}
    shared |= {"training__lr": [1e-3, 2e-3], "training__scheduler": ["constant", "linear"]}
    shared |= {"training__gradient_accumulation_steps": 1}
    before = used_mib()
    apart, together = tmp_path / "apart", tmp_path / "together"
    values = []
    for folder, resources in ((apart, half(max_concurrent=1)), (together, half())):
        folder.mkdir()
        result = run_sweep(write_space(folder, resources=resources, **shared), out=folder / "sweep")
        assert [trial.state for trial in result.trials] == [TrialState.COMPLETE] * 4
        values.append([trial.value for trial in result.trials])
    assert values[0] == values[1], "to the last bit"
    assert eventually(lambda: used_mib() <= before + 64)


def test_memory_that_runs_out_splits_the_same_global_batch(write_space, tmp_path):
    limit_gib = 0.25 if HAS_GPU else 0.8
    file = write_space(
        tmp_path,
        data_path="builtin:quickstart",
        eval_data=0.05,
        training={
            "lr": [1e-3, 2e-3], "scheduler": "constant", "global_batch_size": 256,
            "per_device_batch_size": 256,
            "max_seq_len": 96, "epochs": 0.3,
        },
        deepspeed={"zero_stage": 0, "precision": "fp32"},
        objective={"evaluations": 1},
        search={"trials": 1},
        resources={
            "max_concurrent": 1, "gpus_per_rank": 1 if HAS_GPU else 0, "cpus_per_rank": 1,
            "memory_limit_gib": limit_gib,
        },
    )  # fmt: skip
    (trial,) = run_sweep(file, out=tmp_path / "sweep").trials
    assert trial.state is TrialState.COMPLETE, trial.reason
    setbacks = trial.attributes["setbacks"]
    assert setbacks and all(one["out_of_memory"] for one in setbacks)
    training = trial.attributes["config"]["training"]
    assert training["per_device_batch_size"] < 256
    assert training["per_device_batch_size"] * training["gradient_accumulation_steps"] == 256


def test_a_rank_that_is_killed_leaves_nothing_on_the_gpu_and_its_trial_goes_on(write_space, tmp_path):
    before, folder = used_mib(), SweepFolder(tmp_path / "sweep")
    file = write_space(tmp_path, search__trials=1, training__epochs=20, resources=half(max_concurrent=1))
    driver = Driver("run", file, "--out", folder.root).until("untrained model")
    (rank,) = marked(folder.processes_dir)
    os.kill(rank, signal.SIGKILL)
    driver.until("retry 1 of 2")
    driver.process.kill()
    driver.end()
    ranks = marked(folder.processes_dir)
    assert eventually(lambda: not any(map(is_running, ranks)))
    assert eventually(lambda: used_mib() <= before + 64)
    assert open_sweep(folder)[1].trials()
