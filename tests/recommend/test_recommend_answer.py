"""best-config.yaml: a space file with nothing open, and its provenance."""

from __future__ import annotations

from pathlib import Path

import pytest
from recommend_helpers import SPACE, gather, make_space, trial
from ruamel.yaml import YAML

from sweeper.errors import SweeperError, UserError
from sweeper.recommend import export, write_answer
from sweeper.recommend.exports import Run
from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState
from sweeper.space import Space, SweepFolder, load_space, require_closed

VERSIONS = {"torch": "2.13.0"}
FINGERPRINTS = {"data": "abc", "model": "def"}


def answer(space: Space, folder: SweepFolder, *records: TrialRecord) -> dict:
    path = write_answer(space, records, folder, VERSIONS, FINGERPRINTS)
    return dict(YAML(typ="safe").load(path.read_text()))


def test_the_answer_has_nothing_open_and_loads_again(space: Space, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    answer(space, folder, trial(0, 1.0, is_default=True), trial(1, 0.8, lr=3e-3, epochs=3.0))
    again = load_space(folder.best_config, gather=gather)
    require_closed(again)
    assert again.close({}).training.lr == 3e-3
    assert again.close({}).training.epochs == 3


def test_the_answer_is_what_the_best_trial_trained(space: Space, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    best = trial(1, 0.8, scheduler="linear")
    answer(space, folder, trial(0, 1.0, is_default=True), best)
    again = load_space(folder.best_config, gather=gather).close({})
    assert again.model_copy(update={"provenance": None}) == space.close(best.values)


def test_provenance_names_the_trial_its_value_and_the_whole_evidence(space: Space, tmp_path: Path) -> None:
    tree = answer(
        space,
        SweepFolder(tmp_path),
        trial(0, 1.0, is_default=True, tokens=1000),
        trial(1, 0.8, tokens=3000),
        trial(2, None, TrialState.FAIL, reason="diverged"),
    )
    assert tree["provenance"] == {
        "sweep": "demo",
        "trial": 1,
        "metric": "eval/loss",
        "value": 0.8,
        "default_value": 1.0,
        "trials": 3,
        "tokens": 4000,
        "versions": VERSIONS,
        "fingerprints": FINGERPRINTS,
    }


def test_a_default_that_was_stopped_early_gives_no_default_value(space: Space, tmp_path: Path) -> None:
    stopped = trial(0, 1.4, TrialState.PRUNED, is_default=True)
    tree = answer(space, SweepFolder(tmp_path), stopped, trial(1, 0.8))
    assert tree["provenance"]["default_value"] is None


def test_without_a_complete_trial_there_is_no_answer_and_the_reasons_are_told(
    space: Space, tmp_path: Path
) -> None:
    folder = SweepFolder(tmp_path)
    records = [
        trial(0, 1.0, TrialState.PRUNED, is_default=True, reason="above the untrained model"),
        trial(1, None, TrialState.FAIL, reason="diverged"),
        trial(2, None, TrialState.FAIL, reason="diverged"),
    ]
    with pytest.raises(SweeperError, match=r"none of 3 trials") as caught:
        answer(space, folder, *records)
    assert "FAIL: diverged (trial 1, 2)" in str(caught.value)
    assert not folder.best_config.exists()


def test_a_password_of_the_tracking_store_stays_out_of_the_answer(tmp_path: Path) -> None:
    text = SPACE + "tracking: {mlflow_uri: 'postgresql://me:s3cret@db/mlflow', experiment: e}\n"
    folder = SweepFolder(tmp_path / "sweep")
    answer(make_space(tmp_path, text), folder, trial(0, 1.0))
    written = folder.best_config.read_text()
    assert "s3cret" not in written and "experiment: e" in written


def test_the_answer_is_taken_from_a_real_ledger(space: Space, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    ledger = Ledger.create(folder.study_url, space)
    for loss in (1.0, 0.7, 0.9):
        record = ledger.ask()
        assert record is not None
        metrics = {"eval/loss": loss}
        ledger.report(record.number, Evaluation(tokens=500, step=5, seconds=1.0, metrics=metrics))
        ledger.finish(record.number, TrialState.COMPLETE)
    tree = YAML(typ="safe").load(write_answer(space, ledger.trials(), folder, {}, {}).read_text())
    assert (tree["provenance"]["trial"], tree["provenance"]["default_value"]) == (1, 1.0)
    assert tree["provenance"]["tokens"] == 1500


def test_an_unknown_format_is_answered_with_the_known_ones(space: Space) -> None:
    with pytest.raises(UserError, match="yaml or deepspeed"):
        export(Run(config=space.close({}), steps=1), "toml")
