"""TensorBoard and Weights & Biases get each point once, whatever happens, and no sweep waits for them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from board_files import event_curves, event_texts, wandb_curves, wandb_runs
from waiting import HANGS_AFTER_S

from sweeper.errors import MissingDependencyError
from sweeper.space import Facts, SweepFolder, load_space
from sweeper.track import BoardWriter, MetricPoint, boards_of, check_boards

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
CURVES = {
    "train/loss": [(100, 3.0), (200, 2.0), (300, 1.5), (400, 1.25)],
    "eval/loss": [(0, 7.0), (200, 2.5), (400, 2.0)],
}
"""Of a whole trial."""
NAME, RUN = "2 · lr 2.4e-3 · linear", "2-lr-2.4e-3-linear"


def space(folder: Path, also: str):
    file = folder / "space.yaml"
    file.write_text(
        "name: 学习率扫描\nmodel_path: m\ndata_path: d.jsonl\ntraining: {lr: auto}\n"
        f"tracking: {{also: {also}}}\n"
    )
    return load_space(file, gather=lambda _: FACTS)


def points(to_tokens: int) -> list[MetricPoint]:
    return [
        MetricPoint(name=name, value=value, step=tokens, time_s=1.75e9 + tokens)
        for name, curve in CURVES.items()
        for tokens, value in curve
        if tokens <= to_tokens
    ]


def start(board: BoardWriter, number: int = 2, name: str = NAME) -> None:
    board.trial_started(
        number,
        name=name,
        searched={"lr": 0.0024, "scheduler": "linear"},
        fixed={"zero_stage": 2, "training.global_batch_size": 8},
        config_yaml="lr: 0.0024\n",
        tags={"version.torch": "2"},
        at_s=1.75e9,
    )


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Of a sweep, offline, with a wandb of the tests' own."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "sweep"


@pytest.fixture
def boards(root):
    def make() -> list[BoardWriter]:
        both = space(root.parent, "[tensorboard, wandb]")
        return boards_of(both, SweepFolder(root), sweep_id="0123456789abcdef", warn=lambda _: None)

    return make


def test_each_point_is_there_once_after_a_pause_and_a_killed_driver(boards, root):
    """First a driver that is told to stop; then one that dies with its notes unwritten; then the last."""
    first = boards()
    for board in first:
        start(board)
        board.metrics(2, points(200))
        assert board.close(HANGS_AFTER_S) == []
    notes = {board: (root / board / ".written.json").read_text() for board in ("tensorboard", "wandb")}
    assert json.loads(notes["wandb"])["2"] == {"tokens": 200, "done": False}
    for board in boards():
        start(board)
        board.metrics(2, lambda: points(400))
        assert board.close(HANGS_AFTER_S) == []
    for board, text in notes.items():
        (root / board / ".written.json").write_text(text)
    for board in boards():
        start(board)
        board.metrics(2, lambda: points(400))
        board.trial_finished(2, state="COMPLETE", reason=None, metrics={"perf/startup_s": 0.5})
        start(board, 3, "3 · lr 10")
        board.trial_finished(3, state="FAIL", reason="diverged at step 3, lr 10", metrics={})
        assert board.close(HANGS_AFTER_S) == []
    for board in boards():  # a sync: there is nothing to do, and wandb is not even imported
        start(board)
        board.metrics(2, lambda: pytest.fail("they were read"))
        assert board.close(HANGS_AFTER_S) == []

    curves = event_curves(root / "tensorboard")
    assert curves == {RUN: {**CURVES, "perf/startup_s": [(0, 0.5)]}, "3-lr-10": {}}
    states = {RUN: "COMPLETE", "3-lr-10": "FAIL: diverged at step 3, lr 10"}
    assert event_texts(root / "tensorboard", "state") == states
    assert "lr: 0.0024" in event_texts(root / "tensorboard", "config")[RUN]

    runs = wandb_runs(root / "wandb")
    assert sorted(runs) == ["0123456789ab-2", "0123456789ab-3"]
    run, failed = runs["0123456789ab-2"], runs["0123456789ab-3"]
    merged = {name: sorted(set(curve)) for name, curve in wandb_curves(run).items()}
    assert merged == CURVES  # what the killed driver wrote comes again at its own step, which is one row
    assert (run["name"], run["group"], run["project"]) == (NAME, "学习率扫描", "学习率扫描")
    assert run["config"]["lr"] == 0.0024 and run["config"]["training.global_batch_size"] == 8
    assert (run["summary"]["state"], run["summary"]["perf/startup_s"]) == ("COMPLETE", 0.5)
    assert (run["exit_code"], failed["exit_code"]) == (0, 1)
    assert failed["summary"]["reason"] == "diverged at step 3, lr 10"


class Broken:
    """A board that refuses everything of some trials."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.told = numbers, []

    def trial_started(self, trial) -> None:
        self.told.append(trial.number)
        if trial.number in self.numbers:
            raise SystemExit(f"no room for {trial.number}")

    def log(self, number: int, tokens: int, values: Mapping[str, float], time_s: float) -> None:
        self.told.append((number, tokens))

    def trial_finished(self, number, state, reason, metrics) -> None:
        self.told.append((number, state))

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


def run(board: Broken, notes: Path, trials: int) -> tuple[list[str], list[str]]:
    """What was warned of at once, and at the end."""
    at_once: list[str] = []
    writer = BoardWriter("wandb", lambda: board, notes, remedy="sweeper sync DIR", warn=at_once.append)
    for number in range(trials):
        start(writer, number)
        writer.metrics(number, points(100))
        writer.trial_finished(number, state="COMPLETE", reason=None, metrics={})
    return at_once, writer.close(HANGS_AFTER_S)


def test_a_trial_that_a_board_refuses_is_left_out_told_and_written_later(tmp_path):
    broken = Broken(1)
    at_once, warnings = run(broken, tmp_path / "notes.json", 3)
    said = "wandb: no room for 1 (MLflow has it all; write it later with: sweeper sync DIR)"
    assert at_once == warnings == [said]
    assert broken.told == [0, (0, 0), (0, 100), (0, "COMPLETE"), 1, 2, (2, 0), (2, 100), (2, "COMPLETE")]
    mended = Broken()
    assert run(mended, tmp_path / "notes.json", 3) == ([], [])
    assert mended.told == [1, (1, 0), (1, 100), (1, "COMPLETE")]


def test_a_board_that_is_broken_for_good_is_not_tried_for_ever(tmp_path):
    broken = Broken(*range(100))
    at_once, warnings = run(broken, tmp_path / "notes.json", 100)
    assert broken.told == [0, 1, 2]
    assert len(warnings) == 3 and at_once == warnings


def test_a_board_whose_package_is_missing_is_told_with_what_to_install(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "sweeper.track.boards.chosen.find_spec", lambda name: None if name == "wandb" else found(name)
    )
    check_boards(space(tmp_path, "[tensorboard]"))
    with pytest.raises(MissingDependencyError, match=r"pip install 'sweeper\[wandb\]'") as caught:
        check_boards(space(tmp_path, "[tensorboard, wandb]"))
    assert "space.yaml:5" in str(caught.value)
