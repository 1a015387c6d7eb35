"""``objective.at: best``: the model of the best evaluation is what a trial ends with, to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from sweeper.errors import CheckpointError
from sweeper.space import Checkpoints, Objective
from sweeper.training import CheckpointRetention
from sweeper.training.best import BestEvaluation, BestSoFar

FIRST = Objective(at="best", mode="max", evaluations=3)
"""The loss falls, so the first evaluation is the best by this one."""

VARIANTS = {
    "zero 0": {"zero_stage": 0},
    "zero 2, bf16": {"zero_stage": 2, "precision": "bf16"},
    "zero 3": {"zero_stage": 3},
    "adapters": {"zero_stage": 2, "lora": {"rank": 4, "alpha": 16}, "lr": 1e-2},
}


def weights_of(rank) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in rank._running()._executor.state_dict().items()}


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def job(job_of, quick_config, tmp_path):
    def make(**changes):
        config = quick_config(**changes).model_copy(update={"objective": FIRST})
        return replace(job_of(config), checkpoints=tmp_path / "states", model_folder=tmp_path / "model")

    return make


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_finished_run_goes_back_to_the_weights_of_its_best_evaluation(rank, job, variant):
    one = job(**VARIANTS[variant])
    keeper = CheckpointRetention(one)
    rank.prepare(one)
    progress = rank.advance()
    best, seen = weights_of(rank), [progress]
    while not progress.done:
        keeper.keep_state(rank, progress)
        seen.append(progress := rank.advance())
    assert [one.best.step for one in seen] == [seen[0].step] * 3
    assert progress.best.metrics["eval/loss"] == seen[0].metrics["eval/loss"]
    assert not equal(weights_of(rank), best)
    keeper.keep_model(rank, progress)
    assert equal(weights_of(rank), best)
    assert (one.model_folder).is_dir()
    rank.stop()


def test_a_run_that_goes_on_from_a_later_state_knows_what_was_best_before(rank, job):
    one = job()
    keeper = CheckpointRetention(one)
    rank.prepare(one)
    first = rank.advance()
    best = weights_of(rank)
    keeper.keep_state(rank, first)
    keeper.keep_state(rank, rank.advance())
    _, second_state = sorted(one.checkpoints.iterdir())
    rank.prepare(replace(one, resume_from=second_state))  # as after a kill: nothing else is known
    last = rank.advance()
    assert last.done and last.best.step == first.step
    assert last.best.metrics["eval/loss"] == first.metrics["eval/loss"]
    CheckpointRetention(one).keep_model(rank, last)
    assert equal(weights_of(rank), best)
    rank.stop()


def test_a_state_between_two_evaluations_is_never_taken_for_an_evaluations(rank, job):
    one = job()
    rank.prepare(one)
    rank.advance()
    rank._running()._optimizer_step()
    rank.checkpoint(one.checkpoints / "step-between")
    rank.stop()
    place = json.loads((one.checkpoints / "step-between" / "progress.json").read_text())
    assert place["objective"] is None and place["best"]["step"] < place["step"]


def test_the_earliest_of_equal_evaluations_is_the_best_and_one_that_is_no_number_never():
    def after(values: list[float], mode: str = "min") -> int | None:
        best = BestSoFar(Objective(mode=mode))
        for step, value in enumerate(values, start=1):
            best.take(BestEvaluation(step=step, tokens=step, metrics={"eval/loss": value}))
        return best.evaluation and best.evaluation.step

    nan, inf = float("nan"), float("inf")
    assert after([2.0, 1.0, 1.0, 3.0]) == 2
    assert after([2.0, 1.0, 1.0, 3.0], "max") == 4
    assert after([nan, 2.0, nan, -inf]) == 2
    assert after([nan, inf]) is None


class Writer:
    """An engine that holds the model of a step."""

    def __init__(self) -> None:
        self.restored: list[str] = []
        self.saved = 0

    def restore(self, folder) -> None:
        self.restored.append(folder.name)

    def save_model(self, folder) -> None:
        self.saved += 1


def finished(step: int, loss: float, best: tuple[int, float] | None):
    from sweeper.training import Progress

    kept = best and BestEvaluation(step=best[0], tokens=10 * best[0], metrics={"eval/loss": best[1]})
    return Progress(
        step=step, tokens=10 * step, seconds=1.0, metrics={"eval/loss": loss}, done=True, best=kept
    )


@pytest.mark.parametrize(
    ("best", "before", "restored", "saved"),
    [
        ((3, 1.0), None, ["step-00000003"], 1),
        ((3, 1.0), 1.5, ["step-00000003"], 1),
        ((3, 1.0), 0.5, [], 0),  # another trial's is better: nothing is read
        ((9, 2.0), None, [], 1),  # the last one is the best
        (None, None, [], 0),
    ],
)
def test_the_model_that_is_kept_is_judged_by_its_best_evaluation(
    job_of, quick_config, tmp_path, best, before, restored, saved
):
    config = quick_config().model_copy(update={"objective": Objective(at="best")})
    one = replace(job_of(config), checkpoints=tmp_path, model_folder=tmp_path / "model", best_so_far=before)
    (tmp_path / "step-00000003").mkdir()
    writer = Writer()
    CheckpointRetention(one).keep_model(writer, finished(9, 2.0, best))
    assert (writer.restored, writer.saved) == (restored, saved)


def test_a_best_state_that_could_not_be_written_keeps_no_model_and_says_so(job_of, quick_config, tmp_path):
    config = quick_config().model_copy(
        update={"objective": Objective(at="best"), "checkpoints": Checkpoints(model="all")}
    )
    one = replace(job_of(config), checkpoints=tmp_path, model_folder=tmp_path / "model")
    (tmp_path / "model").mkdir()
    writer = Writer()
    with pytest.raises(CheckpointError, match="after step 3, is lost"):
        CheckpointRetention(one).keep_model(writer, finished(9, 2.0, (3, 1.0)))
    assert writer.saved == 0 and (tmp_path / "model").is_dir()
