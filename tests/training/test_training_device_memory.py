"""What a rank does with its GPU's memory, seen from DeepSpeed's accelerator: a stand-in for it, no GPU."""

from __future__ import annotations

import pytest

from sweeper.training import memory

GIB = 2**30


class Device:
    """80 GiB, of which strangers and this process hold some."""

    def __init__(self) -> None:
        self.reserved_gib, self.allocated_gib, self.strangers_gib = 0.0, 0.0, 30.0

    def device_name(self) -> str:
        return "cuda"

    def total_memory(self) -> float:
        return 80 * GIB

    def available_memory(self) -> float:
        return (80 - self.strangers_gib - self.reserved_gib) * GIB

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
    return device


def test_a_shared_gpu_has_what_is_free_and_another_one_all_of_it(device):
    assert memory.capacity_gib() == 80
    assert memory.capacity_gib(is_shared=True) == 50


def test_what_the_allocator_keeps_of_a_trial_is_given_back_and_counted_until_then(device):
    idle_gib = memory.held_memory_gib()
    device.reserved_gib, device.allocated_gib = 12.0, 2.0
    assert memory.held_memory_gib() - idle_gib == pytest.approx(12, abs=0.5)
    memory.return_unused()
    assert memory.held_memory_gib() - idle_gib == pytest.approx(2, abs=0.5)
