"""Room for a trial's ranks: counted, waited for aloud, and not a CPU more than is used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from driver_process import Driver
from waiting import HANGS_AFTER_S

from sweeper.commands import open_sweep, sweep_state
from sweeper.ray_tune import free_resources as room
from sweeper.ray_tune.free_resources import Places, RoomWatch, ranks_with_room, trials_in
from sweeper.search import TrialState
from sweeper.space import SweepFolder

HOLD_A_CPU = """
import sys
import ray
from ray.util.placement_group import placement_group

ray.init(log_to_driver=False, logging_level="ERROR")
print(placement_group([{"CPU": 1}]).wait(60), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("bundle", "nodes", "ranks"),
    [
        ({"CPU": 1}, [{"CPU": 1}, {"CPU": 1}], 2),
        ({"CPU": 2}, [{"CPU": 3}, {"CPU": 1}], 1),
        ({"CPU": 1, "GPU": 1}, [{"CPU": 8}, {"CPU": 8, "GPU": 2}, {"CPU": 1, "GPU": 4}], 3),
        ({"CPU": 1, "GPU": 0.4}, [{"CPU": 8, "GPU": 2}], 4),  # a share of a GPU lies on one GPU
        ({"CPU": 1, "GPU": 1 / 3}, [{"CPU": 8, "GPU": 1}], 3),
        ({"CPU": 1}, [{}], 0),
    ],
)
def test_a_rank_has_room_on_one_node(bundle, nodes, ranks):
    assert ranks_with_room(nodes, bundle) == ranks


@pytest.mark.parametrize(("placement", "trials"), [("pack", 3), ("strict_pack", 2)])
def test_a_trial_that_has_to_lie_on_one_node_has_no_room_on_what_two_have_left(
    quick_config, placement, trials
):
    config = with_resources(quick_config(dp=2), placement=placement)
    assert trials_in([{"CPU": 3}, {"CPU": 3}], config) == trials


@pytest.mark.parametrize(
    ("wanted", "places", "told"),
    [
        (None, [2, 3, 1], ["2 trials side by side", "3 trials side by side", "one trial at a time"]),
        (2, [2, 2, 1], ["one trial at a time, not for 2"]),
    ],
)
def test_trials_side_by_side_follow_nodes_that_come_and_go(monkeypatch, quick_config, wanted, places, told):
    said: list[str] = []
    monkeypatch.setattr(room, "_most_resources", lambda: None)
    look, found = Places(quick_config(), wanted, said.append, clock=lambda: float(10 * len(found))), []
    for nodes in ([{"CPU": 2}], [{"CPU": 2}, {"CPU": 1}], []):  # a trial waits, where no node is left
        monkeypatch.setattr(room, "_nodes", lambda nodes=nodes: nodes)
        found.append(look())
    assert found == places
    assert said == [f"Ray has room for {one}" for one in told]


def with_resources(config, **changes):
    return config.model_copy(update={"resources": config.resources.model_copy(update=changes)})


def test_what_is_waited_for_is_said_after_a_moment_and_then_every_minute(monkeypatch):
    now, said = 0.0, []
    monkeypatch.setattr(room, "_asked_in_vain", lambda: {"CPU": 2.0})
    monkeypatch.setattr(room.ray, "available_resources", lambda: {"CPU": 1.0})
    watch = RoomWatch(lambda text: said.append((now, text)), clock=lambda: now)
    while now < 130:
        watch.look()
        now += 0.5
    assert said == [(at, "waiting for 2 CPUs; 1 free") for at in (3.0, 63.0, 123.0)]


def test_what_has_room_and_only_starts_is_not_said_to_wait(monkeypatch):
    now, said = 0.0, []
    monkeypatch.setattr(room, "_asked_in_vain", dict)
    watch = RoomWatch(said.append, clock=lambda: now)
    while now < 130:
        watch.look()
        now += 0.5
    assert said == []


@pytest.mark.parametrize(
    ("asked", "free", "said"),
    [
        ({"CPU": 1.0}, {}, "waiting for 1 CPU; 0 free"),
        ({"CPU": 4.0}, {"CPU": 4.0}, "waiting for 4 CPUs; 4 free, scattered over the nodes"),
        (
            {"CPU": 2.0, "GPU": 2.0},
            {"CPU": 9.0, "GPU": 1.0},
            "waiting for 2 CPUs and 2 GPUs; 9 CPUs and 1 GPU free",
        ),
    ],
)
def test_the_numbers_asked_and_free_are_said(asked, free, said):
    assert room._waiting(asked, free) == said


def test_two_ranks_take_two_nodes_of_one_cpu_and_a_cpu_that_is_taken_is_waited_for(
    two_nodes, write_space, tmp_path, monkeypatch
):
    for name, value in {"RAY_ADDRESS": two_nodes.address, **two_nodes.token}.items():
        monkeypatch.setenv(name, value)
    file = write_space(
        tmp_path, parallel={"dp": 2}, resources={"cpus_per_rank": 1, "max_concurrent": 2}, search__trials=1
    )
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_CPU], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "True\n"
    out = tmp_path / "sweep"
    driver = Driver("run", file, "--out", out).until("waiting for 2 CPUs; 1 free")
    assert "(RAY_ADDRESS)" in driver.said and "starts" not in driver.said
    assert "Ray has room for one trial at a time, not for 2" in driver.said

    os.kill(driver.process.pid, signal.SIGTERM)
    assert driver.end() == 130
    assert f"sweeper resume {out}" in driver.said
    _, ledger = open_sweep(SweepFolder(out))
    assert sweep_state(ledger, SweepFolder(out)) == "interrupted"
    assert [trial.state for trial in ledger.trials()] == [TrialState.RUNNING]

    other.stdin.close()
    other.wait(timeout=HANGS_AFTER_S)
    driver = Driver("run", file, "--resume", "--out", out)
    assert driver.end() == 0
    assert "going on: 1 of 1 trials were begun" in driver.said
    assert "trial 0 starts" in driver.said and "trial 0 done" in driver.said
