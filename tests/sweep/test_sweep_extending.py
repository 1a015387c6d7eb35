"""A sweep whose ranges grow, with trials that pause, is killed and goes on."""

from __future__ import annotations

import math
import random

import test_sweep_pausing
from test_sweep_pausing import EVALUATIONS, Killed, Sweep

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
    space, rng, kills = load_space(file, gather=gather_facts), random.Random(0), 4

    def moment() -> None:
        nonlocal kills
        if kills and rng.random() < 0.1:
            kills -= 1
            raise Killed

    whole, killed = Sweep(tmp_path / "whole", space), Sweep(tmp_path / "killed", space)
    whole.drive()
    while True:
        try:
            killed.drive(moment)
            break
        except Killed:
            continue
    assert kills == 0
    assert killed.ends() == whole.ends()
    grown = space_in_force(space, whole.trials()).dimension("lr").open_value
    assert grown.high >= 1e-3
    assert max(one.values["lr"] for one in whole.trials()) > 1e-4
