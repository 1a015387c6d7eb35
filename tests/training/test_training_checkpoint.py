"""A run that is interrupted and resumed ends in the same weights, to the last bit, as one that was not."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch

from sweeper.errors import TrialFailedError, UserError
from sweeper.training.parallel.checkpoint_engine import SafeCheckpoints
from sweeper.training.ranks.group import WorkerGroup

VARIANTS: dict[str, dict[str, Any]] = {
    "zero 0": {"zero_stage": 0},
    "zero 3": {"zero_stage": 3},
    "zero 0, bf16": {"zero_stage": 0, "precision": "bf16"},
    "zero 2, bf16": {"zero_stage": 2, "precision": "bf16"},
    "zero 3, bf16": {"zero_stage": 3, "precision": "bf16"},
    "zero 2, optimizer offloaded": {"zero_stage": 2, "offload": "optimizer"},
    "zero 3, all offloaded": {"zero_stage": 3, "offload": "all"},
    "packed": {"zero_stage": 2, "packing": True, "per_device_batch_size": 2},
    "accumulation": {"zero_stage": 1, "gradient_accumulation_steps": 2, "per_device_batch_size": 4},
    "adapters with dropout": {"zero_stage": 2, "lora": {"rank": 4, "alpha": 16, "dropout": 0.2}, "lr": 1e-2},
}


def weights_of(rank) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in rank._running()._executor.state_dict().items()}


def finished(rank) -> tuple[list[float], dict[str, torch.Tensor]]:
    losses, done = [], False
    while not done:
        progress = rank.advance()
        losses += [step.loss for step in progress.steps] + [progress.metrics["eval/loss"]]
        done = progress.done
    return losses, weights_of(rank)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_run_ends_in_the_same_weights_to_the_last_bit(
    rank, job_of, quick_config, tmp_path, variant
):
    job = job_of(quick_config(epochs=0.5, **VARIANTS[variant]))
    rank.prepare(job)
    rank.advance()
    rank.checkpoint(tmp_path / "checkpoint")
    losses, weights = finished(rank)
    rank.prepare(job_of(quick_config(lr=3e-2)))  # something else happens in between
    rank.advance()
    rank.prepare(replace(job, resume_from=tmp_path / "checkpoint"))
    resumed_losses, resumed_weights = finished(rank)
    rank.stop()
    assert resumed_losses == losses
    assert resumed_weights.keys() == weights.keys()
    assert all(torch.equal(resumed_weights[name], weights[name]) for name in weights)


@pytest.mark.usefixtures("ray_here")
def test_two_ranks_resume_to_the_last_bit_in_new_processes(group_of, quick_config, job_of, run_in, tmp_path):
    config = quick_config(dp=2, per_device_batch_size=2, zero_stage=3, packing=True)
    job, folder, group = job_of(config), tmp_path / "checkpoint", group_of(config)
    group.prepare(job)
    group.advance()
    group.checkpoint(folder)
    losses = [progress.metrics["eval/loss"] for progress in (group.advance(), group.advance())]
    group.save_model(tmp_path / "straight")
    group.stop()
    fresh = WorkerGroup(config, None)
    try:
        resumed = run_in(fresh, replace(job, resume_from=folder))
        fresh.save_model(tmp_path / "resumed")
    finally:
        fresh.shut_down()
    assert [progress.metrics["eval/loss"] for progress in resumed.evaluations] == losses
    straight, again = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "resumed")
    )
    assert straight == again


def test_a_checkpoint_of_other_settings_is_not_taken_up(rank, job_of, quick_config, tmp_path):
    rank.prepare(job_of(quick_config()))
    rank.advance()
    rank.checkpoint(tmp_path / "checkpoint")
    with pytest.raises(UserError, match="other settings"):
        rank.prepare(replace(job_of(quick_config(lr=5e-4)), resume_from=tmp_path / "checkpoint"))
    rank.stop()


def test_a_folder_that_holds_half_a_checkpoint_is_not_taken_up(rank, job_of, quick_config, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(TrialFailedError, match="not a whole checkpoint"):
        rank.prepare(replace(job_of(quick_config()), resume_from=tmp_path / "checkpoint"))
    rank.stop()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(1), "trap": Trap()}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        SafeCheckpoints().load(str(tmp_path / "state.pt"))
    assert not Trap.sprung


class Trap:
    """Sets a flag when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return _spring, ()


def _spring() -> None:
    Trap.sprung = True
