"""``sweeper best --format``: the answer of a sweep as another trainer's file, and what stands in the way."""

from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from sweeper.commands import best_export, write_export
from sweeper.errors import SweepFolderError, UserError
from sweeper.recommend import write_answer
from sweeper.search import Evaluation, Ledger, TrialState
from sweeper.space import Facts, SweepFolder, load_space
from sweeper.sweep.stored import store_space

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_space) -> SweepFolder:
    """A sweep of two trials that nobody has trained, with its answer."""
    root = tmp_path_factory.mktemp("answered")
    space, folder = load_space(write_space(root), gather=lambda _: FACTS), SweepFolder(root / "sweep")
    store_space(space, folder)
    ledger = Ledger.create(folder.study_url, space)
    for loss in (2.0, 1.0):
        number = ledger.ask().number
        ledger.report(number, Evaluation(tokens=100, step=STEPS, seconds=1.0, metrics={"eval/loss": loss}))
        ledger.finish(number, TrialState.COMPLETE)
    write_answer(space, ledger.trials(), folder, {}, {})
    return folder


@pytest.mark.parametrize("fmt", ["deepspeed", "trl", "openrlhf", "llamafactory", "axolotl", "ms-swift"])
def test_every_format_has_the_rate_and_the_global_batch_of_the_answer(folder, fmt):
    answer = YAML(typ="safe").load(folder.best_config.read_text())["training"]
    found = best_export(folder.root, fmt=fmt)
    assert f"{answer['lr']}" in found.text or f"{answer['lr']:e}" in found.text
    batch = answer["per_device_batch_size"] * answer["gradient_accumulation_steps"]
    if fmt == "deepspeed":
        assert json.loads(found.text)["train_batch_size"] == batch
    else:
        assert f"{STEPS} optimizer steps of {batch} rows on 1 GPU" in found.text


def test_yaml_is_the_file_as_it_stands(folder):
    assert best_export(folder.root, fmt="yaml").text == folder.best_config.read_text()


def test_a_number_of_gpus_that_the_batch_cannot_be_shared_by_is_refused_with_those_that_it_can(folder):
    with pytest.raises(UserError, match="cannot be shared out evenly over 7 ranks") as caught:
        best_export(folder.root, fmt="trl", gpus=7)
    assert "give one of 1, 2, 4, 8" in str(caught.value)


def test_what_cannot_be_written_leaves_nothing_half_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_export(best_export(folder.root, fmt="trl"), tmp_path / "file" / "sft.yaml")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert write_export(best_export(folder.root, fmt="trl"), tmp_path / "sft.yaml") == (
        tmp_path / "sft.yaml",
        tmp_path / "sft_train.py",
    )


def test_a_sweep_without_an_answer_says_what_to_do(tmp_path):
    with pytest.raises(SweepFolderError, match="holds no sweep"):
        best_export(tmp_path, fmt="deepspeed")


def test_an_answer_without_its_provenance_is_named(tmp_path):
    SweepFolder(tmp_path).best_config.write_text("name: x\n")
    with pytest.raises(SweepFolderError, match=r"provenance\.trial"):
        best_export(tmp_path, fmt="deepspeed")
