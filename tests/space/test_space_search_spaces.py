"""Every file of search_spaces/ stands as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from space_helpers import FACTS, GPU_FACTS, load_text

from sweeper.space import dump_config, load_space, make_plan, require_open

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml"))


def test_there_are_search_spaces():
    assert len(SPACES) >= 5
    names = [load_space(path, gather=lambda settings: FACTS).name for path in SPACES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "facts", [FACTS, GPU_FACTS, replace(FACTS, hidden_size=None)], ids=["cpu", "gpu", "hub"]
)
@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_search_space_loads_plans_closes_and_round_trips(path, facts, tmp_path):
    space = load_space(path, gather=lambda settings: facts)
    require_open(space)
    assert make_plan(space).steps.low >= 1
    assert load_text(tmp_path, dump_config(space.resolved()), head="", facts=facts) == space
    config = space.close(space.default_values())
    assert load_text(tmp_path, dump_config(config), head="", facts=facts).close({}) == config


def test_the_schedules_are_compared_at_one_budget():
    path = next(path for path in SPACES if path.stem == "schedulers_matched_budget")
    plan = make_plan(load_space(path, gather=lambda settings: FACTS))
    assert plan.steps.low == plan.steps.high
    assert plan.global_batch.low == plan.global_batch.high
    assert plan.trials == 20


def test_the_eight_gpu_file_takes_the_whole_machine():
    path = next(path for path in SPACES if path.stem == "full_8b_eight_gpus")
    config = load_space(path, gather=lambda settings: GPU_FACTS).close({})
    assert config.parallel.ranks == 8
    assert config.deepspeed.zero_stage == 3
    assert config.resources.max_concurrent == 1
