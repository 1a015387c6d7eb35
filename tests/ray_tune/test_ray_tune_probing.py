"""What a rank may take while its trial is probed: together never more than there is."""

from __future__ import annotations

import pytest

from sweeper.ray_tune.probing import limit_gib


@pytest.fixture
def config_of(quick_config):
    def make(**resources):
        config = quick_config(dp=2)
        return config.model_copy(update={"resources": config.resources.model_copy(update=resources)})

    return make


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_on_a_cpu_all_trials_together_take_what_is_free_and_what_the_first_idle_ranks_hold(config_of, trials):
    config = config_of(max_concurrent=trials)
    limit = limit_gib(config, idle_gib=0.5, free_gib=10.0)
    assert config.parallel.ranks * trials * limit == pytest.approx(10.0 + config.parallel.ranks * 0.5)


def test_a_rank_has_its_share_of_a_gpu(config_of):
    for share, limit in ((0.25, 20.0), (1.0, 80.0), (2.0, 80.0)):
        config = config_of(gpus_per_rank=share, max_concurrent=4)
        assert limit_gib(config, idle_gib=0.5, free_gib=80.0) == limit


def test_the_files_own_limit_wins_where_it_is_lower(config_of):
    assert limit_gib(config_of(memory_limit_gib=2.0), idle_gib=0.5, free_gib=10.0) == 2.0
    assert limit_gib(config_of(memory_limit_gib=64.0), idle_gib=0.5, free_gib=10.0) == 5.5
