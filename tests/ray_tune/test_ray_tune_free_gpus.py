"""Only GPUs with memory free are taken. nvidia-smi is a stand-in on PATH: none of this was run on a GPU."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fake_gpus import FOUR, write_nvidia_smi

from sweeper.data import gather_facts
from sweeper.errors import SpaceFileError, UserError
from sweeper.ray_tune.free_gpus import free_gpus, read_gpus
from sweeper.space import Parallel, load_space, make_plan, require_hardware


@pytest.fixture
def driver_says(tmp_path, monkeypatch):
    """Puts an nvidia-smi first on PATH that tells of these GPUs, one list for each time that it is asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return lambda *answers: write_nvidia_smi(tmp_path, *answers)


def config(least: float, *, dp: int = 1, gpus: float = 1.0):
    return SimpleNamespace(
        parallel=Parallel(dp=dp), resources=SimpleNamespace(min_free_gib=least, gpus_per_rank=gpus)
    )


def never(seconds: float) -> None:
    raise AssertionError("it waits")


@pytest.mark.parametrize(
    ("asked", "places", "chosen"),
    [
        (config(20), 1, [1]),
        (config(20), 8, [1, 2]),
        (config(20, dp=2), 1, [1, 2]),
        (config(20, dp=2, gpus=0.5), 1, [1]),
        (config(10, gpus=0.5), 5, [1, 2, 3]),
    ],
)
def test_the_gpus_with_the_most_memory_free_are_taken_and_no_more_than_are_used(
    driver_says, asked, places, chosen
):
    driver_says(FOUR)
    assert [one.index for one in free_gpus(asked, places, print, never)] == chosen


@pytest.mark.parametrize(
    ("visible", "chosen"), [("0,1", [1]), ("GPU-2", [2]), ("2,GPU-1aaa", [1, 2]), ("2,9,1", [2])]
)
def test_what_cuda_visible_devices_hides_is_not_taken(driver_says, monkeypatch, visible, chosen):
    driver_says(FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [one.index for one in free_gpus(config(20), 4, print, never)] == chosen


def test_gpus_of_others_are_waited_for_aloud(driver_says):
    busy = [(3, 40), (4, 40)]
    driver_says(*[busy] * 14, [(3, 40), (30, 40)])
    slept, said = [], []
    assert [one.index for one in free_gpus(config(20), 1, said.append, slept.append)] == [1]
    assert sum(slept) == 70
    assert said == ["waiting for 1 GPU with 20 GiB free; 0 free (GPU 0: 3.0 GiB, GPU 1: 4.0 GiB)"] * 2


def test_what_no_gpu_can_ever_have_free_is_refused_with_the_numbers(driver_says):
    driver_says(FOUR)
    with pytest.raises(
        UserError, match=r"takes 4 GPUs with so much free, and 3 can ever have it \(GPU 0: 40.0"
    ):
        free_gpus(config(20, dp=4), 1, print, never)


def test_an_nvidia_smi_that_does_not_answer_is_an_error_to_mend(driver_says):
    with pytest.raises(UserError, match="what is free on the GPUs is not known"):
        read_gpus()


def test_on_a_cpu_the_key_is_noted_and_on_a_cluster_refused(write_space, tmp_path, monkeypatch):
    space = load_space(write_space(tmp_path, resources__min_free_gib=20), gather=gather_facts)
    assert "min_free_gib is of no use here: ranks train on the CPU" in make_plan(space).notes
    require_hardware(space)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(SpaceFileError, match="sees its own processes only"):
        require_hardware(space)
    assert json.loads((tmp_path / "space.yaml").read_text())["resources"]["min_free_gib"] == 20
