"""The tuner's proposals, on machines whose speed is a formula; nothing else is faked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.autotune import Tuner
from sweeper.autotune.estimate.memory_model import predict
from sweeper.autotune.estimate.workload import workload_of
from sweeper.data import TokenizedData
from sweeper.data.model.sizes import model_sizes
from sweeper.errors import TrialOutOfMemoryError, UserError
from sweeper.space import SYSTEM, Config, system_config_of
from sweeper.training import Probed, StepTime

SIZES = model_sizes("builtin:quickstart")
IDLE_GIB = 0.5


@dataclasses.dataclass
class Machine:
    """Answers probes by a formula, and counts them."""

    data: TokenizedData
    pass_overhead_s: float = 0.05
    token_s: float = 1e-4
    optimizer_s: float = 0.02
    crowded_tokens: float = float("inf")
    """Passes of more tokens are slower: they fall out of the caches."""
    stage_s: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    limit_gib: float = float("inf")
    heavier: float = 1.0
    """Measured over predicted memory."""
    probed: list[Config] = dataclasses.field(default_factory=list)

    def probe(self, config: Config) -> Probed:
        self.probed.append(config)
        work = workload_of(config, self.data)
        memory = predict(config, SIZES, work).total_gib
        if memory > self.limit_gib:
            raise TrialOutOfMemoryError("the allocator has no more")
        training = config.training
        tokens = training.per_device_batch_size * float(self.data.train.lengths.mean())
        pass_s = self.pass_s(config, tokens)
        passes = [pass_s] * training.gradient_accumulation_steps
        passes[-1] += self.optimizer_s + self.stage_s[config.deepspeed.zero_stage]
        whole = round(tokens * len(passes) * config.parallel.dp)
        step = StepTime(tokens=whole, seconds=sum(passes), passes_s=tuple(passes))
        each = tuple((work.first.tokens, work.first.completion_tokens) for _ in passes)
        return Probed(
            steps=(step, step),
            passes=(each, each),
            held_out=(work.held_out.tokens, work.held_out.completion_tokens),
            evaluated_tokens_per_s=1e4,
            startup_s=0.1,
            idle_gib=IDLE_GIB,
            peak_gib=IDLE_GIB + memory * self.heavier,
        )

    def pass_s(self, config: Config, tokens: float) -> float:
        price = 4 / 3 if config.deepspeed.gradient_checkpointing else 1.0
        crowded = 1.5 if tokens > self.crowded_tokens else 1.0
        return self.pass_overhead_s + tokens * self.token_s * price * crowded

    def speed(self, config: Config) -> float:
        """Of the whole global batch."""
        training = config.training
        tokens = training.per_device_batch_size * float(self.data.train.lengths.mean())
        passes = training.gradient_accumulation_steps
        last = self.optimizer_s + self.stage_s[config.deepspeed.zero_stage]
        return passes * tokens * config.parallel.dp / (passes * self.pass_s(config, tokens) + last)


def tuner_of(config: Config, machine: Machine, room_gib: float = 100.0, **more: object) -> Tuner:
    return Tuner(
        config=config, measured=SYSTEM, sizes=SIZES, data=machine.data, room_gib=room_gib,
        probe=machine.probe, **more,
    )  # fmt: skip


def best_of(tuner: Tuner, machine: Machine, room_gib: float) -> float:
    """The speed of the fastest of all candidates that fit."""
    fitting = [one for one in tuner._candidates() if one.memory.total_gib <= room_gib]
    return max(machine.speed(one.config) for one in fitting)


MACHINES: dict[str, Callable[[TokenizedData], Machine]] = {
    "dear passes": lambda data: Machine(data, pass_overhead_s=0.2),
    "cheap passes": lambda data: Machine(data, pass_overhead_s=0.001),
    "small caches": lambda data: Machine(data, crowded_tokens=600),
    "dear optimizer": lambda data: Machine(data, optimizer_s=2.0),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("batch", [16, 64])
def test_four_probes_find_a_configuration_within_five_percent_of_the_best(rows, quick_config, name, batch):
    machine = MACHINES[name](rows)
    config = quick_config(per_device_batch_size=batch)
    tuner = tuner_of(config, machine)
    best = tuner.search()
    assert len(machine.probed) <= 4
    assert best.tokens_per_s >= 0.95 * best_of(tuner, machine, 100.0)


def test_the_fastest_zero_stage_is_found_where_ranks_share_a_model(rows, quick_config):
    machine = Machine(rows, stage_s=(0.6, 0.1, 0.5, 1.0))
    best = tuner_of(quick_config(per_device_batch_size=8, dp=2), machine).search()
    assert best.levers.zero_stage == 1


def test_a_stage_that_lost_is_not_probed_again_with_other_rows(rows, quick_config):
    """With fewer rows in a pass stage 0 is faster still, and so becomes the best after stage 1 has lost."""
    machine = Machine(rows, pass_overhead_s=0.005, stage_s=(0.0, 0.5, 1.0, 1.0), crowded_tokens=300)
    tuner = tuner_of(quick_config(per_device_batch_size=16, dp=2), machine)
    best = tuner.search()
    tried = [(one.levers.zero_stage, one.levers.per_device_batch_size) for one in tuner.records]
    assert [stage for stage, _ in tried].count(1) == 1 and len(tried) == 4
    assert (best.levers.zero_stage, best.levers.per_device_batch_size) != tried[0]


@settings(max_examples=30)
@given(
    batch=st.sampled_from([6, 8, 12, 32]),
    overhead=st.floats(0.0001, 1.0),
    room=st.floats(0.17, 1.0),  # the lightest way needs 0.14, of which the heap is 0.06
)
def test_no_probe_and_no_answer_touches_the_global_batch_or_needs_more_than_there_is(
    rows, quick_config, batch, overhead, room
):
    machine = Machine(rows, pass_overhead_s=overhead)
    config = quick_config(per_device_batch_size=batch)
    best = tuner_of(config, machine, room_gib=room).search()
    rows_of_a_step = best.levers.per_device_batch_size * best.levers.gradient_accumulation_steps
    assert rows_of_a_step == batch
    for probed in machine.probed:
        assert predict(probed, SIZES, workload_of(probed, rows)).total_gib <= room


def test_what_does_not_fit_after_all_is_a_result_and_lighter_ones_are_tried(rows, quick_config):
    config = quick_config(per_device_batch_size=64)
    free = Machine(rows, pass_overhead_s=0.2)
    largest = max(predict(one, SIZES, workload_of(one, rows)).total_gib for one in [config])
    machine = Machine(rows, pass_overhead_s=0.2, limit_gib=largest * 0.9)
    tuner = tuner_of(config, machine)
    best = tuner.search()
    assert tuner_of(config, free).search().levers.per_device_batch_size == 64
    failed = [one for one in tuner.records if one.tokens_per_s is None]
    assert failed and best.tokens_per_s is not None
    assert best.levers.per_device_batch_size < 64 or best.levers.gradient_checkpointing


def test_what_fits_by_a_hair_is_left_for_what_fits_with_room_to_spare(rows, quick_config):
    """Later trials meet larger passes, in processes that hold a little more."""
    config = quick_config(per_device_batch_size=64)
    room = predict(config, SIZES, workload_of(config, rows)).total_gib / 0.94
    machine = Machine(rows, pass_overhead_s=0.2, heavier=1.04)
    tuner = tuner_of(config, machine, room, start=system_config_of(config))
    best = tuner.search()
    hair = tuner.records[0]
    assert hair.levers.per_device_batch_size == 64 and 0.95 * room < hair.measured_gib < room
    assert best.tokens_per_s < hair.tokens_per_s and best.measured_gib <= 0.95 * room


def test_where_nothing_fits_the_error_says_what_would(rows, quick_config):
    machine = Machine(rows)
    with pytest.raises(UserError) as caught:
        tuner_of(quick_config(per_device_batch_size=8), machine, room_gib=0.01).search()
    said = str(caught.value)
    assert not machine.probed
    assert "may take 0.01 GiB" in said and "micro-batch " in said and "gradient checkpointing" in said
    assert "a machine with" in said and "libraries" in said


def test_without_the_models_sizes_it_begins_with_one_row(rows, quick_config):
    machine = Machine(rows)
    config = quick_config(per_device_batch_size=8)
    tuner = tuner_of(config, machine)
    tuner.sizes = None
    tuner.search()
    assert machine.probed[0].training.per_device_batch_size == 1


def test_the_files_own_configuration_comes_first_where_that_is_asked_for(rows, quick_config):
    machine = Machine(rows)
    config = quick_config(per_device_batch_size=8, gradient_accumulation_steps=2)
    tuner_of(config, machine, start=system_config_of(config)).search()
    assert system_config_of(machine.probed[0]) == system_config_of(config)


def test_rows_beyond_those_that_were_slower_are_not_tried(rows, quick_config):
    """The peak is at 16 rows: 8 are slower, and so nothing is learned from 4."""
    machine = Machine(rows, pass_overhead_s=0.02, crowded_tokens=600)
    tuner = tuner_of(quick_config(per_device_batch_size=32), machine)
    assert tuner.search().levers.per_device_batch_size == 16
    tried = [one.levers.per_device_batch_size for one in tuner.records]
    assert tried[:3] == [32, 16, 8] and min(tried) == 8
