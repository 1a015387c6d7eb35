"""A run that goes on from another run's state ends as one that trained by itself, to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweeper.data import SequenceSet, TokenizedData
from sweeper.training.retention import state_folder, states_in
from sweeper.training.shared_steps import history_hash, shared_steps, training_plan

STEPS = 12
"""Of one epoch: 96 rows, 8 in a batch."""
SCHEDULE = {"warmup_steps": 3, "decay_ratio": 0.2}


def plan_on(config, data: TokenizedData):
    return training_plan(config, SequenceSet.of(config, data.train), data.content)


@pytest.fixture(scope="module")
def plan_for(longer_config, job_of):
    data = TokenizedData.open(job_of(longer_config()).data_dir)

    def plan(**changes: Any):
        return plan_on(longer_config(**changes), data)

    return plan


schedules = st.fixed_dictionaries(
    {
        "scheduler": st.sampled_from(["constant", "linear", "cosine", "exponential", "wsd"]),
        "epochs": st.sampled_from([0.5, 1, 1.5, 2, 3]),
        "final_lr_ratio": st.sampled_from([0.0, 0.1, 1.0]),
        "warmup_ratio": st.sampled_from([0.0, 0.1]),
        "decay_ratio": st.sampled_from([0.1, 0.2, 0.5]),
        "warmup_steps": st.sampled_from([None, 0, 3]),
    }
).filter(lambda one: one["scheduler"] != "exponential" or one["final_lr_ratio"] > 0)


@given(schedules, schedules)
def test_shared_steps_end_at_the_first_multiplier_that_differs_and_are_the_same_rows(plan_for, one, other):
    first, second = plan_for(**one), plan_for(**other)
    shared = shared_steps(first, second)
    assert shared == shared_steps(second, first)
    assert first.multipliers[:shared].tolist() == second.multipliers[:shared].tolist()
    assert first.tokens_after[:shared].tolist() == second.tokens_after[:shared].tolist()
    if shared < min(first.steps, second.steps):
        assert first.multipliers[shared] != second.multipliers[shared]


OTHER = [
    {"lr": 2e-3},
    {"seed": 1},
    {"weight_decay": 0.1},
    {"max_grad_norm": 0.5},
    {"lora": {"rank": 4}},
    {"per_device_batch_size": 4, "gradient_accumulation_steps": 2},
    {"dp": 2},
    {"zero_stage": 2},
    {"gradient_checkpointing": True},
    {"precision": "bf16"},
]


@given(schedules, st.sampled_from(OTHER))
def test_runs_that_differ_in_anything_else_share_nothing(plan_for, schedule, change):
    assert shared_steps(plan_for(**schedule), plan_for(**schedule, **change)) == 0


@given(schedules, schedules, st.integers(1, 20))
def test_equal_histories_are_those_of_shared_steps(longer_config, plan_for, one, other, step):
    first, second = plan_for(**one), plan_for(**other)
    step = min(step, first.steps, second.steps)
    hashes = {
        history_hash(longer_config(**changes), "rows", step=step, total_steps=plan.steps)
        for changes, plan in ((one, first), (other, second))
    }
    assert (len(hashes) == 1) == (shared_steps(first, second) >= step)


def test_what_is_spelled_otherwise_is_the_same_run(plan_for):
    plain = plan_for(scheduler="constant", **SCHEDULE)
    unused = plan_for(
        scheduler="constant", warmup_steps=3, decay_ratio=0.5, final_lr_ratio=0.3, warmup_ratio=0.2
    )
    assert shared_steps(plain, unused) == plain.steps == unused.steps
    text, names = (
        plan_for(lora={"rank": 4, "targets": one}) for one in ("q_proj, v_proj", ["q_proj", "v_proj"])
    )
    assert shared_steps(text, names) == text.steps


def test_constant_and_wsd_of_other_lengths_share_what_lies_before_an_end_or_a_decay(plan_for):
    plans = {
        (scheduler, epochs): plan_for(scheduler=scheduler, epochs=epochs, **SCHEDULE)
        for scheduler in ("constant", "wsd")
        for epochs in (1, 2, 3)
    }
    assert shared_steps(plans["constant", 1], plans["constant", 3]) == STEPS
    # The decay begins after 28.8 of 36 steps: the first lower rate is that of the step with index 29.
    assert shared_steps(plans["wsd", 3], plans["constant", 3]) == 29
    assert shared_steps(plans["wsd", 1], plans["wsd", 3]) == 10
    by_ratio = (plan_for(scheduler="constant", epochs=epochs, warmup_ratio=0.1) for epochs in (1, 3))
    assert shared_steps(*by_ratio) == 0


VARIANTS: dict[str, dict[str, Any]] = {
    "zero 0": {"zero_stage": 0},
    "zero 1, bf16": {"zero_stage": 1, "precision": "bf16"},
    "zero 3": {"zero_stage": 3},
    "adapters with dropout": {"zero_stage": 2, "lora": {"rank": 4, "alpha": 16, "dropout": 0.2}, "lr": 1e-2},
}
"""A state is taken up as by a run that goes on, of which test_train_checkpoint.py has more kinds; what a fork
does beside that it does to the parameter groups of these optimizers."""


def trained(engine, job):
    """(losses of steps by step, evaluations by step, weights at the end)."""
    losses, evaluations, done = {}, {}, False
    prepared = engine.prepare(job)
    assert prepared.not_forked == ""
    while not done:
        progress = engine.advance()
        assert not progress.warnings
        losses |= {step.step: (step.loss, step.lr, step.grad_norm) for step in progress.steps}
        evaluations[progress.step] = {
            name: value for name, value in progress.metrics.items() if name.startswith("eval/")
        }
        done = progress.done
    weights = {name: one.clone() for name, one in engine._running()._executor.state_dict().items()}
    return losses, evaluations, weights


def assert_a_part(fork, alone, *, after: int) -> None:
    """What the fork did is what the run by itself did after that step."""
    for mine, whole in zip(fork[:2], alone[:2], strict=True):
        assert mine == {step: value for step, value in whole.items() if step in mine}
    assert fork[0].keys() == {step for step in alone[0] if step > after}
    assert fork[1].keys() == {step for step in alone[1] if step >= after}
    assert all(torch.equal(fork[2][name], alone[2][name]) for name in alone[2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fork_ends_in_the_same_weights_and_values_to_the_last_bit(
    rank, job_of, longer_config, tmp_path, variant
):
    changes = SCHEDULE | VARIANTS[variant]
    source, decaying, shorter = (
        job_of(longer_config(scheduler=scheduler, epochs=epochs, **changes))
        for scheduler, epochs in (("constant", 1), ("wsd", 1), ("constant", 0.5))
    )
    plans = [plan_on(job.config, TokenizedData.open(job.data_dir)) for job in (source, decaying, shorter)]
    points = [shared_steps(plans[0], plan) for plan in plans[1:]]
    assert 0 < points[1] < points[0] < plans[0].steps and points[1] == plans[2].steps
    alone = [trained(rank, job) for job in (source, decaying, shorter)]
    leaving = trained(rank, replace(source, leave_at=tuple(points), left_states=tmp_path))
    assert leaving[:2] == alone[0][:2]
    assert sorted(states_in(tmp_path)) == sorted(points)
    for job, point, by_itself in zip((decaying, shorter), points, alone[1:], strict=True):
        fork = trained(rank, replace(job, fork_from=state_folder(tmp_path, point)))
        assert_a_part(fork, by_itself, after=point)
    rank.stop()


@pytest.mark.usefixtures("ray_here")
def test_two_ranks_fork_to_the_last_bit(group_of, longer_config, job_of, tmp_path):
    source, decaying = (
        job_of(
            longer_config(
                scheduler=scheduler, dp=2, per_device_batch_size=2, zero_stage=2, epochs=0.5, **SCHEDULE
            )
        )
        for scheduler in ("constant", "wsd")
    )
    group, losses = group_of(source.config), []
    for job in (
        decaying,
        replace(source, leave_at=(10,), left_states=tmp_path),
        replace(decaying, fork_from=state_folder(tmp_path, 10)),
    ):
        assert group.prepare(job).not_forked == ""
        done, found = False, {}
        while not done:
            progress = group.advance()
            found[progress.step], done = progress.metrics["eval/loss"], progress.done
        losses.append(found)
        group.stop()
    assert losses[2] == {step: loss for step, loss in losses[0].items() if step >= 10} != {}
    assert losses[0][max(losses[0])] != losses[1][max(losses[1])]


def test_a_state_of_other_steps_is_not_taken_up_and_the_run_is_that_from_its_start(
    rank, job_of, longer_config, tmp_path
):
    changes = {"scheduler": "constant", "epochs": 0.5, **SCHEDULE}
    job, other = (job_of(longer_config(lr=lr, **changes)) for lr in (1e-3, 2e-3))
    trained(rank, replace(other, leave_at=(4,), left_states=tmp_path))
    alone = trained(rank, job)
    for folder in (state_folder(tmp_path, 4), tmp_path / "none"):
        assert str(folder) in rank.prepare(replace(job, fork_from=folder)).not_forked
        evaluations = []
        while not evaluations or not evaluations[-1].done:
            evaluations.append(rank.advance())
        found = {one.step: one.metrics["eval/loss"] for one in evaluations}
        assert found == {step: metrics["eval/loss"] for step, metrics in alone[1].items()}
    rank.stop()


def test_a_run_whose_batch_was_split_otherwise_on_the_way_leaves_no_state(
    rank, job_of, longer_config, tmp_path
):
    changes = {"scheduler": "constant", "epochs": 1, **SCHEDULE}
    job = job_of(longer_config(**changes))
    rank.prepare(job)
    rank.advance()
    rank.checkpoint(tmp_path / "own")
    split = job_of(longer_config(per_device_batch_size=4, gradient_accumulation_steps=2, **changes))
    left = tmp_path / "left"
    rank.prepare(replace(split, resume_from=tmp_path / "own", leave_at=(8,), left_states=left))
    while not rank.advance().done:
        pass
    rank.checkpoint(tmp_path / "end")
    assert not left.exists()
    assert json.loads((tmp_path / "end" / "progress.json").read_text())["history"] is None
    rank.stop()


def test_a_fork_that_is_paused_before_its_first_step_is_still_evaluated_there(
    rank, job_of, longer_config, tmp_path
):
    changes = {"scheduler": "constant", **SCHEDULE}
    short, long = (job_of(longer_config(epochs=epochs, **changes)) for epochs in (0.5, 1))
    alone = trained(rank, short)
    trained(rank, replace(long, leave_at=(6,), left_states=tmp_path))
    rank.prepare(replace(short, fork_from=state_folder(tmp_path, 6)))
    rank.want_pause()
    assert rank.advance().paused
    rank.checkpoint(tmp_path / "own")
    resumed = trained(rank, replace(short, resume_from=tmp_path / "own"))
    assert resumed[1] == {6: alone[1][6]}
    rank.stop()


def test_plans_are_arrays_of_the_run_that_the_trainer_makes(rank, job_of, longer_config):
    job = job_of(longer_config(scheduler="wsd", epochs=1.5, **SCHEDULE))
    plan = plan_on(job.config, TokenizedData.open(job.data_dir))
    losses, evaluations, _ = trained(rank, job)
    lrs = [lr for _, (_, lr, _) in sorted(losses.items())]
    assert lrs == (plan.multipliers * job.config.training.lr).tolist()
    assert tuple(sorted(evaluations)) == plan.evaluations
    assert np.array_equal(plan.tokens_after, rank._running()._feed.tokens_after)
    rank.stop()
