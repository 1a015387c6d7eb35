"""``max_concurrent: auto`` is measured where trials can share a device; where it is absent a rule decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_helpers import FACTS, GPU_FACTS, load_text

from sweeper.spec import dump_config, make_plan, most_places, with_places

PLACES, CPUS = "resources.max_concurrent", "resources.cpus_per_rank"
AUTO = "training: {lr: auto}\nresources: {max_concurrent: auto}\n"


def at_once(space) -> tuple[int, int]:
    return space.closed[PLACES], space.closed[CPUS]


def test_written_auto_is_left_to_measuring_and_absent_is_the_rule(tmp_path):
    absent, auto = load_text(tmp_path, "training: {lr: auto}"), load_text(tmp_path, AUTO)
    assert (absent.shared, at_once(absent)) == (frozenset(), (4, 2))
    assert auto.shared == {PLACES, CPUS}
    assert at_once(auto) == (1, 8)  # until it is measured one trial has all cores
    assert not auto.measured  # the fields of the trial itself are another matter


def test_the_resolved_file_asks_the_same_again(tmp_path):
    space = load_text(tmp_path, AUTO)
    tree = space.resolved()
    assert (tree["resources"]["max_concurrent"], tree["resources"]["cpus_per_rank"]) == ("auto", "auto")
    assert load_text(tmp_path, dump_config(tree), head="") == space


def test_what_was_measured_is_what_trials_get(tmp_path):
    space = with_places(load_text(tmp_path, AUTO), 3)
    assert (space.shared, at_once(space)) == (frozenset(), (3, 2))
    resources = space.close(space.default_values()).resources
    assert (resources.max_concurrent, resources.cpus_per_rank) == (3, 2)


def test_cores_that_the_file_gives_a_rank_stay_and_bound_the_places(tmp_path):
    space = load_text(tmp_path, "training: {lr: auto}\nresources: {max_concurrent: auto, cpus_per_rank: 3}")
    assert (space.shared, at_once(space), most_places(space)) == ({PLACES}, (1, 3), 2)
    assert at_once(with_places(space, 2)) == (2, 3)
    assert space.resolved()["resources"]["cpus_per_rank"] == 3


@pytest.mark.parametrize(
    ("resources", "facts"),
    [
        ("max_concurrent: auto", GPU_FACTS),
        ("max_concurrent: auto, gpus_per_rank: 0.6", replace(GPU_FACTS, devices=1)),
        ("max_concurrent: auto, cpus_per_rank: 8", FACTS),
        ("max_concurrent: auto, ray_address: auto", FACTS),
    ],
    ids=["whole GPUs", "no share is left", "all cores", "a cluster"],
)
def test_where_nothing_is_to_be_shared_auto_is_the_rule(tmp_path, resources, facts):
    absent = resources.replace("max_concurrent: auto", "max_retries: 2")
    auto = load_text(tmp_path, f"training: {{lr: auto}}\nresources: {{{resources}}}\n", facts=facts)
    rule = load_text(tmp_path, f"training: {{lr: auto}}\nresources: {{{absent}}}\n", facts=facts)
    assert (auto.shared, at_once(auto)) == (frozenset(), at_once(rule))


def test_a_share_of_a_gpu_is_measured_up_to_what_the_devices_hold_and_the_sweep_has(tmp_path):
    text = "training: {lr: auto}\nsearch: {trials: %d}\n"
    text += "resources: {max_concurrent: auto, gpus_per_rank: 0.25}\n"
    few, many = (load_text(tmp_path, text % trials, facts=GPU_FACTS) for trials in (6, 100))
    assert few.shared == many.shared == {PLACES, CPUS}
    assert (most_places(few), most_places(many)) == (6, 32)


def test_the_plan_says_that_it_is_measured(tmp_path):
    plan = make_plan(load_text(tmp_path, AUTO))
    origins = {one.name: one.origin for one in plan.fixed}
    assert origins["max_concurrent"] == origins["cpus_per_rank"] == "until it is measured"
    assert dict(plan.summary())["machine"].startswith("as many at once as are fastest, 1 rank")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cpus=st.integers(1, 64), dp=st.sampled_from([1, 2, 3]), trials=st.integers(1, 40), data=st.data())
def test_ranks_side_by_side_never_have_more_cores_than_there_are(tmp_path, cpus, dp, trials, data):
    text = f"training: {{lr: auto}}\nparallel: {{dp: {dp}}}\nsearch: {{trials: {trials}}}\n"
    text += "resources: {max_concurrent: auto}\n"
    space = load_text(tmp_path, text, facts=replace(FACTS, cpus=cpus))
    most = most_places(space)
    assert 1 <= most <= trials
    assert bool(space.shared) == (most > 1)
    places, each = at_once(with_places(space, data.draw(st.integers(1, most))))
    assert each >= 1
    assert places * dp * each <= max(cpus, dp)
