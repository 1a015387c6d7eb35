"""``max_concurrent: auto`` is the rule, and the cores are shared out among the trials."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space_helpers import FACTS, GPU_FACTS, load_text

AUTO = "training: {lr: auto}\nresources: {max_concurrent: auto%s}\n"


def at_once(space) -> tuple[int, int]:
    return space.closed["resources.max_concurrent"], space.closed["resources.cpus_per_rank"]


def test_written_auto_is_what_an_absent_field_is(tmp_path):
    absent, auto = load_text(tmp_path, "training: {lr: auto}"), load_text(tmp_path, AUTO % "")
    assert at_once(auto) == at_once(absent) == (4, 2)


def test_on_gpus_as_many_trials_as_there_are_shares(tmp_path):
    shares = AUTO % ", gpus_per_rank: 0.25"
    assert at_once(load_text(tmp_path, AUTO % "", facts=GPU_FACTS))[0] == GPU_FACTS.devices
    assert at_once(load_text(tmp_path, shares, facts=GPU_FACTS))[0] == 4 * GPU_FACTS.devices


def test_other_trials_side_by_side_have_other_cores_unless_the_file_gives_them(tmp_path):
    assert at_once(load_text(tmp_path, AUTO % "").with_concurrency(2)) == (2, 4)
    given_cores = load_text(tmp_path, AUTO % ", cpus_per_rank: 3")
    assert at_once(given_cores.with_concurrency(2)) == (2, 3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cpus=st.integers(1, 64), dp=st.sampled_from([1, 2, 3]))
def test_ranks_side_by_side_never_have_more_cores_than_there_are(tmp_path, cpus, dp):
    text = f"training: {{lr: auto}}\nparallel: {{dp: {dp}}}\nresources: {{max_concurrent: auto}}\n"
    trials, each = at_once(load_text(tmp_path, text, facts=replace(FACTS, cpus=cpus)))
    assert trials >= 1 and each >= 1
    assert trials * dp * each <= max(cpus, dp)
