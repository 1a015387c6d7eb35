"""A sweep whose ranges grow, with trials that pause, is killed and goes on."""

from __future__ import annotations

import math

import test_sweep_pausing
from killed_drivers import drive_through
from test_sweep_pausing import EVALUATIONS, Sweep

from sweeper.data import gather_facts
from sweeper.search import space_in_force
from sweeper.space import load_space


def loss_of(values: dict, fraction: float) -> float:
    """The best lr is 1e-3, and 1e-4 the largest that the file has."""
    return 1 + 0.3 * abs(math.log10(values["lr"]) + 3) + (1 - fraction)


def test_a_sweep_whose_ranges_grow_is_killed_and_ends_in_the_trials_of_an_undisturbed_one(
    tmp_path, write_space, monkeypatch
):
    monkeypatch.setattr(test_sweep_pausing, "loss_of", loss_of)
    file = write_space(
        tmp_path,
        training__lr={"log_uniform": [1e-6, 1e-4]},
        search={"trials": 9, "seed": 3, "extend": True},
        objective={"evaluations": EVALUATIONS},
    )
    space = load_space(file, gather=gather_facts)
    whole, killed = Sweep(tmp_path / "whole", space), Sweep(tmp_path / "killed", space)
    whole.drive()
    drive_through(killed.drive, kills=4, odds=0.1)
    assert killed.ends() == whole.ends()
    grown = space_in_force(space, whole.trials()).dimension("lr").open_value
    assert grown.high >= 1e-3
    assert max(one.values["lr"] for one in whole.trials()) > 1e-4
