"""``run --resume``: the same command begins a sweep, and goes on with it where its folder holds it."""

from __future__ import annotations

import pytest

from sweeper.commands import run_sweep
from sweeper.commands.more import More, asked_again
from sweeper.errors import SweepFolderError
from sweeper.space import Facts, Space, SweepFolder, load_space
from sweeper.sweep.stored import store_space, stored_space

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
BEGUN_WITH = (
    "search.trials=4",
    "search.time_budget=1h",
    "checkpoint_path=first",
    "resources.ray_address=old:1",
)


@pytest.fixture
def begun(tmp_path, write_space):
    """A sweep's folder, and a function that loads its file again with other values."""
    file, folder = write_space(tmp_path), SweepFolder(tmp_path / "sweep")

    def load(*overrides: str) -> Space:
        return load_space(file, overrides=[*BEGUN_WITH, *overrides], gather=lambda _: FACTS)

    store_space(load(), folder)
    return folder, load


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ((), More()),
        (("checkpoint_path=second",), More()),
        (("search.trials=3", "search.time_budget=30m"), More()),
        (("search.trials=9", "search.time_budget=2h"), More(trials=9, time_budget="2h")),
        (("resources.ray_address=new:2",), More(place={"resources.ray_address": "new:2"})),
        (("resources.env=[A=1]",), More(place={"resources.env": ["A=1"]})),
    ],
)
def test_the_same_search_goes_on_with_totals_that_only_grow_and_where_it_is_to_run_now(begun, changes, more):
    folder, load = begun
    found = asked_again(load(*changes), stored_space(folder))
    assert found == more
    if more.place:
        resources = found.of(folder).resolved()["resources"]
        assert all(resources[path.partition(".")[2]] == value for path, value in more.place.items())


def test_another_search_is_refused_by_the_fields_that_are_others(begun):
    folder, load = begun
    with pytest.raises(SweepFolderError) as caught:
        asked_again(load("training.lr=[0.1, 0.2]", "search.seed=7", "search.trials=9"), stored_space(folder))
    assert "search.seed" in str(caught.value) and "training.lr" in str(caught.value)
    assert "search.trials" not in str(caught.value)
    assert "-> go on with it as it was begun by `sweeper resume`" in str(caught.value)


@pytest.mark.parametrize("out", ["s3://bucket/first", "gs:/bucket/first"])
def test_a_bucket_is_no_folder_of_a_sweep(write_space, tmp_path, out):
    with pytest.raises(SweepFolderError, match="is an address, and a sweep's folder is a path"):
        run_sweep(write_space(tmp_path), out=out)
