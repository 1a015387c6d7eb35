"""A sweep gets more trials, time or money; what it has had already counts."""

from __future__ import annotations

import shutil

import pytest

from sweeper.commands import open_sweep
from sweeper.commands.more import More, keep_more, what_is_left
from sweeper.errors import SpaceFileError, SweepFolderError
from sweeper.search import Evaluation, Ledger, TrialState
from sweeper.space import Facts, SweepFolder, load_space
from sweeper.sweep.stored import store_space, stored_space

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
TRIALS = 3


@pytest.fixture(scope="module")
def ran(tmp_path_factory, write_space):
    """A sweep over four configurations that was to have a minute, and had a minute and a half."""
    root = tmp_path_factory.mktemp("ran")
    file = write_space(
        root,
        training={"lr": [1e-4, 1e-3], "epochs": [1, 2]},
        search={"trials": TRIALS, "time_budget": "1m", "sampler": "grid"},
        resources={"max_concurrent": 1, "price_per_gpu_hour": 1},
    )
    space, folder = load_space(file, gather=lambda _: FACTS), SweepFolder(root / "sweep")
    store_space(space, folder)
    ledger = Ledger.create(folder.study_url, space)
    for _ in range(TRIALS):
        number = ledger.ask().number
        ledger.report(number, Evaluation(tokens=1, step=1, seconds=1.0, metrics={"eval/loss": 1.0}))
        ledger.finish(number, TrialState.COMPLETE)
    ledger.note_sweep(spent_s=90.0)
    return folder


@pytest.fixture
def folder(ran, tmp_path):
    """A copy of it."""
    return SweepFolder(shutil.copytree(ran.root, tmp_path / "sweep"))


def give(folder: SweepFolder, more: More) -> list[str]:
    ledger = open_sweep(folder)[1]
    keep_more(more.of(folder), ledger, folder, more)
    return what_is_left(stored_space(folder), ledger)


def test_more_is_kept_in_the_folder_and_nothing_else_of_it_changes(folder):
    before = folder.space_file.read_text()
    begun, budget, grid = give(folder, More(trials=20, time_budget="1h"))
    assert begun == "going on: 3 of 20 trials were begun"
    assert budget == "the time budget (1h): 1m30s are spent, 58m30s are left"
    assert grid == "the space has 4 configurations, fewer than 20 trials"
    after = folder.space_file.read_text()
    assert after == before.replace("trials: 3", "trials: 20").replace("time_budget: 1m", "time_budget: 1h")


LESS = {
    "trials": (More(trials=2, time_budget="1h"), "2 trials", "has begun 3 already", "give at least 3"),
    "time": (More(time_budget="80s"), "1m20s", "they had 1m30s", "more than that with --time-budget"),
    "money": (More(cost_budget=0.01), "0.01", "they had 1m30s", "more than that with --cost-budget"),
    "trials without time": (More(trials=20), "1m", "they had 1m30s", "more than that with --time-budget"),
}


@pytest.mark.parametrize("case", LESS)
def test_less_than_a_sweep_has_had_is_refused_and_nothing_is_kept(folder, case):
    more, *said = LESS[case]
    before = folder.space_file.read_bytes()
    with pytest.raises(SweepFolderError) as caught:
        give(folder, more)
    assert all(part in str(caught.value) for part in said), caught.value
    assert folder.space_file.read_bytes() == before


def test_a_plain_resume_on_a_budget_that_is_spent_says_so(folder):
    begun, all_of_them, budget = give(folder, More())
    assert begun == "going on: 3 of 3 trials were begun" and "--trials" in all_of_them
    assert budget == "the time budget (1m): 1m30s are spent, nothing is left"


def test_what_is_no_total_is_refused_as_in_a_space_file(folder):
    with pytest.raises(SpaceFileError, match="add the unit: 4s, 4m or 4h"):
        give(folder, More(time_budget="4"))
