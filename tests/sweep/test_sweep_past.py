"""A sweep and the history of all sweeps, with trials whose losses are a formula."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from sweeper.data import gather_facts
from sweeper.errors import SweepFolderError
from sweeper.history import HistoryFile
from sweeper.search import Evaluation, Ledger, TrialState
from sweeper.space import SweepFolder, load_space
from sweeper.sweep.past_sweeps import HistoryWriter, freeze_past

TOKENS = 900


@pytest.fixture
def file(tmp_path) -> HistoryFile:
    return HistoryFile(tmp_path / "history.sqlite3")


@pytest.fixture
def space_of(tmp_path, write_space, file):
    def make(name: str, history: object = str(file.path)):
        folder = tmp_path / "files" / name
        folder.mkdir(parents=True)
        search = {"trials": 8, "seed": 0, "history": history}
        return load_space(write_space(folder, name=name, search=search), gather=gather_facts)

    return make


class Driver:
    """Trains trials of one folder by a formula and tells history of them, as a session does."""

    def __init__(self, space, root: Path, best_lr: float = 1e-3) -> None:
        self.folder, self.space, self.best_lr = SweepFolder(root), space, best_lr
        if root.exists():
            self.ledger = Ledger.open(self.folder.study_url, space)
        else:
            root.mkdir()
            self.ledger = Ledger.create(self.folder.study_url, space)
            self.ledger.note_sweep(id=root.name * 4, started_s=float(len(root.name)))
        self.said: list[str] = []
        self.past = freeze_past(space, self.folder, self.ledger, self.said.append)
        self.writer = HistoryWriter(space, self.ledger, self.said.append)
        self.writer.write(self.ledger.trials())

    def train(self, trials: int) -> list[float]:
        """Their learning rates."""
        asked = []
        for _ in range(trials):
            record = self.ledger.ask(past=self.past)
            config = self.space.close(record.values)
            self.ledger.note(record.number, config=config.model_dump(mode="json"), total_tokens=TOKENS)
            asked.append(float(record.values["lr"]))
            loss = 1 + abs(math.log10(asked[-1] / self.best_lr))
            for part in (1, 2, 3):
                self.report(record.number, part * TOKENS // 3, loss + 1 - part / 3)
            self.ledger.finish(record.number, TrialState.COMPLETE)
            self.writer.trial_finished(self.ledger.trial(record.number))
        return asked

    def report(self, number: int, tokens: int, loss: float) -> None:
        evaluation = Evaluation(tokens=tokens, step=tokens, seconds=1.0, metrics={"eval/loss": loss})
        self.ledger.report(number, evaluation)


def test_each_trial_is_in_the_history_when_it_has_ended(space_of, tmp_path, file):
    driver = Driver(space_of("first"), tmp_path / "sweep")
    for count in (1, 2, 3):
        (lr,) = driver.train(1)
        (sweep,) = file.sweeps()
        assert len(sweep.trials) == count and sweep.trials[-1].config["training"]["lr"] == lr
    assert sweep.facts.name == "first" and sweep.facts.features.model == "builtin:quickstart"
    assert sweep.trials[0].total_tokens == TOKENS and len(sweep.trials[0].evaluations) == 3


def test_a_trial_that_failed_for_no_fault_of_its_values_and_one_at_work_are_not_kept(
    space_of, tmp_path, file
):
    driver = Driver(space_of("first"), tmp_path / "sweep")
    lost, diverged, running = (driver.ledger.ask() for _ in range(3))
    for record in (lost, diverged, running):
        config = driver.space.close(record.values)
        driver.ledger.note(record.number, config=config.model_dump(mode="json"))
    driver.ledger.finish(lost.number, TrialState.FAIL, "its processes died")
    driver.report(diverged.number, 300, math.nan)
    driver.ledger.finish(diverged.number, TrialState.FAIL, "diverged")
    driver.report(running.number, 300, 1.0)
    driver.writer.write(driver.ledger.trials())
    (sweep,) = file.sweeps()
    assert [(one.number, one.state, one.evaluations) for one in sweep.trials] == [
        (diverged.number, "FAIL", ((300.0, None),))
    ]


def test_a_second_sweep_begins_with_what_the_first_one_found(space_of, tmp_path):
    first = Driver(space_of("first"), tmp_path / "one", best_lr=5e-3)
    first.train(8)
    second = Driver(space_of("second"), tmp_path / "second", best_lr=5e-3)
    assert "goes by 8 trials of 1 earlier sweeps" in second.said[0]
    lr = second.train(1)[0]
    assert abs(math.log10(lr / 5e-3)) < 0.4
    default = second.space.default_values()["lr"]
    assert abs(math.log10(default / 5e-3)) > 0.4 and second.train(1) == [default]


def test_a_sweep_that_goes_on_asks_the_same_whatever_history_has_learned_since(space_of, tmp_path, file):
    Driver(space_of("first"), tmp_path / "one").train(6)
    other = tmp_path / "other.sqlite3"
    shutil.copy(file.path, other)
    undisturbed = Driver(space_of("undisturbed"), tmp_path / "undisturbed").train(6)
    space = space_of("resumed", history=str(other))
    asked = Driver(space, tmp_path / "resumed").train(2)
    Driver(space_of("second", history=str(other)), tmp_path / "second", best_lr=1e-2).train(6)
    asked += Driver(space, tmp_path / "resumed").train(2)
    HistoryFile(other).forget([one.facts.id for one in HistoryFile(other).sweeps()])
    asked += Driver(space, tmp_path / "resumed").train(2)
    assert asked == undisturbed


def test_without_its_snapshot_a_sweep_does_not_go_on(space_of, tmp_path):
    Driver(space_of("first"), tmp_path / "one").train(4)
    space = space_of("second")
    driver = Driver(space, tmp_path / "second")
    driver.folder.history_file.unlink()
    with pytest.raises(SweepFolderError, match="restore the file"):
        Driver(space, tmp_path / "second")


def test_a_sweep_that_began_without_history_goes_on_without(space_of, tmp_path):
    space = space_of("second")
    assert Driver(space, tmp_path / "second").past is None
    Driver(space_of("first"), tmp_path / "one").train(4)
    assert Driver(space, tmp_path / "second").past is None


def test_without_history_nothing_is_read_or_written(space_of, tmp_path, file):
    Driver(space_of("first", history=False), tmp_path / "one").train(4)
    assert not file.path.exists()
    Driver(space_of("second"), tmp_path / "two").train(4)
    assert Driver(space_of("third", history=False), tmp_path / "three").past is None


def test_a_history_that_cannot_be_written_is_said_once_and_the_sweep_goes_on(space_of, tmp_path, file):
    driver = Driver(space_of("first"), tmp_path / "one")
    file.path.write_bytes(b"broken")
    driver.train(3)
    assert len([line for line in driver.said if "not kept in the history" in line]) == 1


def test_what_an_earlier_driver_could_not_tell_is_told_by_the_next(space_of, tmp_path, file):
    space = space_of("first")
    driver = Driver(space, tmp_path / "one")
    driver.writer._file = None
    driver.train(3)
    assert file.sweeps() == []
    Driver(space, tmp_path / "one")
    assert [len(one.trials) for one in file.sweeps()] == [3]
