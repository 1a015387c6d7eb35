"""What a rank does with its GPU's memory, seen from DeepSpeed's accelerator: a stand-in for it, no GPU."""

from __future__ import annotations

import os

import pytest
import torch

from sweeper.space import Resources
from sweeper.training import memory
from sweeper.training.ranks.processes import choose_device

GIB = 2**30


class Device:
    """80 GiB, of which strangers and this process hold some."""

    def __init__(self) -> None:
        self.reserved_gib, self.allocated_gib, self.strangers_gib = 0.0, 0.0, 30.0
        self.fractions: list[float] = []

    def device_name(self) -> str:
        return "cuda"

    def total_memory(self) -> float:
        return 80 * GIB

    def free_and_total(self) -> tuple[float, float]:
        return (80 - self.strangers_gib - self.reserved_gib) * GIB, 80 * GIB

    def memory_allocated(self) -> float:
        return self.allocated_gib * GIB

    def memory_reserved(self) -> float:
        return self.reserved_gib * GIB

    def empty_cache(self) -> None:
        self.reserved_gib = self.allocated_gib


@pytest.fixture
def device(monkeypatch) -> Device:
    device = Device()
    monkeypatch.setattr(memory, "get_accelerator", lambda: device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", device.free_and_total)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", device.fractions.append)
    return device


def resources(share: float, limit_gib: float | None = None) -> Resources:
    return Resources(max_concurrent=1, cpus_per_rank=1, gpus_per_rank=share, memory_limit_gib=limit_gib)


def test_a_gpu_has_what_is_free_and_what_this_process_keeps_of_it(device):
    assert memory.capacity_gib() == 50
    device.reserved_gib = 12.0
    assert memory.capacity_gib() == 50
    assert 47 < memory.capacity_gib(gpu_share=0.25) < 49, "three more contexts will come"


def test_a_rank_on_a_fraction_of_a_gpu_is_kept_to_it_and_one_that_has_it_alone_is_not(device):
    quarter_gib = memory.memory_share_gib(resources(0.25))
    assert 19 < quarter_gib < 20
    assert memory.memory_share_gib(resources(1)) is None
    assert memory.memory_share_gib(resources(1, 30.0)) == 30
    assert memory.memory_share_gib(resources(0.25, 8.0)) == 8
    assert memory.memory_share_gib(resources(0.25, 64.0)) == quarter_gib


def test_a_limit_is_a_fraction_of_the_whole_gpu_whatever_is_free_of_it(device):
    memory.limit_memory(20.0)
    memory.limit_memory(None)
    assert device.fractions == [0.25, 1.0]


def test_what_the_allocator_keeps_of_a_trial_is_given_back_and_counted_until_then(device):
    idle_gib = memory.held_memory_gib()
    device.reserved_gib, device.allocated_gib = 12.0, 2.0
    assert memory.held_memory_gib() - idle_gib == pytest.approx(12, abs=0.5)
    memory.return_unused()
    assert memory.held_memory_gib() - idle_gib == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize(("accelerator", "sees"), [("cpu", ""), ("cuda", "3")])
def test_a_rank_chooses_its_device_before_deepspeed_does(monkeypatch, accelerator, sees):
    for name in ("DS_ACCELERATOR", "CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    choose_device(accelerator)
    assert (os.environ["DS_ACCELERATOR"], os.environ["CUDA_VISIBLE_DEVICES"]) == (accelerator, sees)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == (accelerator == "cuda")
