"""``sweeper best --prefer`` on ledgers without a training, and what it says where something is missing."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from sweeper.commands import best_configuration, best_export
from sweeper.errors import SweeperError, UserError
from sweeper.search import Evaluation, Ledger, TrialState
from sweeper.space import Facts, Objective, SweepFolder, load_space
from sweeper.sweep.stored import store_space
from sweeper.track import second_by

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)


@pytest.fixture
def begun(tmp_path, write_space):
    """Makes a sweep's folder with trials of these (loss, seconds), which nobody has concluded."""

    def make(objective, outcomes) -> SweepFolder:
        file = write_space(tmp_path, objective=objective)
        space, folder = load_space(file, gather=lambda _: FACTS), SweepFolder(tmp_path / "sweep")
        store_space(space, folder)
        ledger = Ledger.create(folder.study_url, space)
        for loss, seconds in outcomes:
            number = ledger.ask().number
            metrics = {"eval/loss": loss}
            ledger.report(number, Evaluation(tokens=100, step=1, seconds=seconds, metrics=metrics))
            ledger.finish(number, TrialState.COMPLETE)
        return folder

    return make


def test_the_front_of_a_sweep_that_has_not_ended_is_there_already(begun):
    folder = begun(["eval/loss", "cost"], [(2.0, 50.0), (1.9, 20.0), (1.0, 1000.0), (1.1, 40.0)])
    for prefer, number in (("cost", 1), ("knee", 3)):
        provenance = YAML(typ="safe").load(best_configuration(folder.root, prefer=prefer))["provenance"]
        assert (provenance["trial"], provenance["prefer"]) == (number, prefer)
    assert not folder.best_config.exists()


def test_a_preference_needs_two_objectives(begun):
    folder = begun({"metric": "eval/loss"}, [(2.0, 50.0)])
    with pytest.raises(UserError, match="one objective, eval/loss: there is no front") as caught:
        best_configuration(folder.root, prefer="knee")
    assert "leave --prefer out" in str(caught.value)


@pytest.mark.parametrize("fmt", ["yaml", "deepspeed"])
def test_without_a_complete_trial_there_is_no_answer_by_any_preference(begun, fmt):
    folder = begun(["eval/loss", "tokens"], [(float("nan"), 1.0)])
    with pytest.raises(SweeperError):
        best_export(folder.root, prefer="cost", fmt=fmt)


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (Objective(), None),
        (Objective(also="cost"), "cost/gpu_seconds"),
        (Objective(also="peak_memory"), "cost/peak_memory_gib"),
        (Objective(also="eval/token_accuracy"), None),
        (Objective(also="eval/token_accuracy", at="best"), "best/token_accuracy"),
    ],
)
def test_mlflow_has_the_second_objective_under_one_name(objective, name):
    assert second_by(objective) == name
