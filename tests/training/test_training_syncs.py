"""No step waits for the device: what the host wants to know crosses over now and then, all at once."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sweeper

PACKAGE = str(Path(sweeper.__file__).parent)
WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
"""What needs a value of the device on the host: item(), float(), bool(), a boolean index."""


class Waits(TorchDispatchMode):
    """Counts who waited: a function of this package, or a library that it called."""

    def __init__(self) -> None:
        super().__init__()
        self.libraries = self.own = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in WAITING:
            callers = [frame.filename for frame in traceback.extract_stack() if frame.filename != __file__]
            outside_torch = [name for name in callers if "/torch/" not in name]
            if outside_torch[-1].startswith(PACKAGE):
                self.own += 1
            else:
                self.libraries += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("changes", "of_deepspeed"),
    [
        ({"zero_stage": 0}, 0),
        ({"zero_stage": 0, "packing": True, "per_device_batch_size": 2}, 0),
        ({"zero_stage": 0, "gradient_accumulation_steps": 4, "per_device_batch_size": 2}, 0),
        ({"zero_stage": 2}, 4),  # the norm that it clips by
        ({"zero_stage": 3}, 4),
    ],
    ids=str,
)
def test_a_step_waits_for_the_device_nowhere_in_this_package(
    rank, job_of, quick_config, changes, of_deepspeed
):
    rank.prepare(job_of(quick_config(**changes)))
    trainer = rank._running()
    for _ in range(3):  # ZeRO-3 learns the order of the weights
        trainer._optimizer_step()
    with Waits() as waits:
        trainer._optimizer_step()
    rank.stop()
    assert waits.own == 0
    assert waits.libraries <= of_deepspeed


def test_the_count_would_see_a_wait():
    with Waits() as waits:
        float(torch.ones(1))
    assert waits.libraries + waits.own == 1
