"""What stays on the disk of a trial is what its settings say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeper.space import Checkpoints
from sweeper.training import CheckpointRetention, Job, Progress, discard, newest_checkpoint


class Writer:
    """The side of an engine that writes: a folder with the objective of the state."""

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.models = losses, 0

    def checkpoint(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        step = int(folder.name.removeprefix("step-"))
        (folder / "progress.json").write_text(json.dumps({"objective": self.losses[step]}))

    def save_model(self, folder: Path) -> None:
        folder.mkdir()
        self.models += 1


def progress(step: int, loss: float, *, done: bool = False) -> Progress:
    return Progress(step=step, tokens=10 * step, seconds=1.0, metrics={"eval/loss": loss}, done=done)


@pytest.fixture
def states_after(quick_config, tmp_path):
    """The steps whose states are left after a run with these losses."""

    def go(losses: list[float], **settings) -> list[int]:
        config = quick_config().model_copy(update={"checkpoints": Checkpoints(**settings)})
        folder = tmp_path / "states"
        job = Job(
            config=config,
            cache_dir=tmp_path,
            data_dir=tmp_path,
            log_file=tmp_path / "log.txt",
            checkpoints=folder,
        )
        keeper, writer = CheckpointRetention(job), Writer(losses)
        for step, loss in enumerate(losses):
            keeper.keep_state(writer, progress(step, loss))
        states = sorted(folder.glob("*")) if folder.exists() else []
        return [int(state.name.removeprefix("step-")) for state in states]

    return go


def test_the_last_and_the_best_state_stay(states_after):
    assert states_after([3.0, 1.0, 2.0, 2.5]) == [1, 3]


def test_the_best_goes_when_only_the_last_is_asked_for(states_after):
    assert states_after([3.0, 1.0, 2.0, 2.5], keep_best=False) == [3]


def test_as_many_of_the_newest_stay_as_asked(states_after):
    assert states_after([3.0, 2.0, 1.0, 0.5], keep_last=3) == [1, 2, 3]


def test_a_state_without_a_finite_objective_is_never_the_best(states_after):
    assert states_after([float("nan"), 2.0, 3.0]) == [1, 2]


def test_nothing_is_written_when_none_is_to_be_kept(states_after):
    assert states_after([3.0, 1.0], keep_last=0) == []


@pytest.mark.parametrize(
    ("policy", "before", "loss", "saved"),
    [
        ("best", None, 2.0, 1),
        ("best", 2.5, 2.0, 1),
        ("best", 1.5, 2.0, 0),
        ("all", 1.5, 2.0, 1),
        ("none", None, 2.0, 0),
    ],
)
def test_a_model_is_saved_when_it_is_the_best_so_far(quick_config, tmp_path, policy, before, loss, saved):
    config = quick_config().model_copy(update={"checkpoints": Checkpoints(model=policy)})
    job = Job(
        config=config,
        cache_dir=tmp_path,
        data_dir=tmp_path,
        log_file=tmp_path / "log.txt",
        model_folder=tmp_path / "model",
        best_so_far=before,
    )
    writer = Writer([])
    CheckpointRetention(job).keep_model(writer, progress(9, loss, done=True))
    assert writer.models == saved


def test_the_newest_state_is_the_one_with_the_most_steps_and_drafts_do_not_count(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None
    for name in ("step-00000009", "step-00000100", ".step-00000200.partial"):
        (tmp_path / name).mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000100"
    discard(tmp_path / "step-00000100", inside=tmp_path)
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000009"


def test_nothing_outside_of_the_sweeps_folder_is_removed_through_a_link(tmp_path):
    outside, sweep = tmp_path / "outside", tmp_path / "sweep"
    for folder in (outside / "checkpoints", sweep / "trials" / "0"):
        folder.mkdir(parents=True)
    (outside / "checkpoints" / "precious").touch()

    (sweep / "trials" / "1").symlink_to(outside)
    discard(sweep / "trials" / "1" / "checkpoints", inside=sweep)  # a trial's folder leads out
    discard(sweep / "trials" / ".." / ".." / "outside" / "checkpoints", inside=sweep)
    (sweep / "trials" / "0" / ".checkpoints.removed").symlink_to(outside / "checkpoints")
    (sweep / "trials" / "0" / "checkpoints").symlink_to(outside / "checkpoints")
    discard(sweep / "trials" / "0" / "checkpoints", inside=sweep)  # the folder itself is a link
    assert (outside / "checkpoints" / "precious").exists()
    assert not list((sweep / "trials" / "0").iterdir())


def test_a_sweep_behind_a_link_is_tidied_as_any_other(tmp_path):
    (tmp_path / "large-disk" / "trials" / "0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "sweep").symlink_to(tmp_path / "large-disk")
    discard(tmp_path / "sweep" / "trials" / "0" / "checkpoints", inside=tmp_path / "sweep")
    assert not (tmp_path / "large-disk" / "trials" / "0" / "checkpoints").exists()
