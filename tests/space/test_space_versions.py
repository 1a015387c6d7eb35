"""What one version stores and another one reads: records, configurations, hashes, and a folder's format."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from pydantic import create_model

from sweeper.errors import SweepFolderError
from sweeper.space import (
    DataSource,
    Deepspeed,
    Lora,
    Parallel,
    SweepFolder,
    TooLarge,
    Training,
    begun_format,
    lasting_tree,
    mark_format,
    read_config,
    read_record,
)
from sweeper.space.versions import _FIRST_FIELDS, FORMAT_VERSION


@pytest.fixture
def folder(tmp_path):
    return SweepFolder(tmp_path / "sweep")


def test_a_record_is_read_with_keys_of_a_newer_version_and_without_those_it_came_before(quick_config):
    known = TooLarge.of(quick_config())
    tree = asdict(known)
    tree["seen_at_s"] = tree["levers"]["activation_offload"] = 1
    assert read_record(TooLarge, tree) == known
    del tree["levers"]["zero_stage"]
    with pytest.raises(ValueError, match="zero_stage"):
        read_record(TooLarge, tree)


def test_a_configuration_is_read_with_keys_of_a_newer_version_in_every_section(quick_config):
    source = DataSource(path="rows.jsonl", weight=2)
    config = quick_config(lora=Lora(rank=4), config={"zero_optimization": {"reduce_bucket_size": 1}})
    config = config.model_copy(update={"data_path": (source, "more.jsonl")})
    tree = json.loads(config.model_dump_json())
    newer = [tree, tree["training"], tree["training"]["lora"], tree["data_path"][0], tree["resources"]]
    for section in newer:
        section["newer"] = "value"
    assert read_config(tree) == config
    del tree["training"]["seed"], tree["checkpoints"]
    assert read_config(tree) == config


@pytest.mark.parametrize(
    ("path", "model"),
    {"training": Training, "training.lora": Lora, "deepspeed": Deepspeed, "parallel": Parallel}.items(),
)
def test_the_fields_that_hashes_cover_from_the_beginning_are_all_there(path, model):
    assert set(_FIRST_FIELDS[path].split()) <= set(model.model_fields)


def test_a_hash_does_not_see_a_newer_field_until_it_is_used(quick_config):
    training = quick_config(lora=Lora()).training
    wider_lora = create_model("WiderLora", __base__=Lora, rank_stabilized=(bool, False))
    wider = create_model(
        "Wider", __base__=Training, label_smoothing=(float, 0.0), lora=(wider_lora, ...), extra=(Lora, Lora())
    )
    tree = lasting_tree(training, "training")
    same = wider(**training.model_dump())
    newer = {"warmup_steps": True, "lora": {"alpha_ratio"}}  # than the first hashes
    assert lasting_tree(same, "training") == tree == training.model_dump(mode="json", exclude=newer)
    used = [
        {"label_smoothing": 0.1},
        {"lora": wider_lora(rank_stabilized=True)},
        {"extra": Lora(rank=8)},
        {"weight_decay": 0.1},
        {"lora": wider_lora(alpha=16)},
    ]
    trees = [lasting_tree(same.model_copy(update=one), "training") for one in used]
    assert tree not in trees
    assert trees[0]["label_smoothing"] == 0.1 and trees[1]["lora"]["rank_stabilized"] is True


def test_a_folder_without_a_number_is_of_the_first_format_and_is_marked(folder):
    begun_format(folder)
    mark_format(folder)
    assert json.loads(folder.format_file.read_text())["format_version"] == FORMAT_VERSION
    before = folder.format_file.stat().st_mtime_ns
    mark_format(folder)
    assert folder.format_file.stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [FORMAT_VERSION + 1, "two", None])
def test_a_folder_of_a_newer_version_is_refused_and_the_version_to_take_is_named(folder, number):
    mark_format(folder)
    folder.format_file.write_text(json.dumps({"format_version": number, "sweeper": "9.1"}))
    for touch in (begun_format, mark_format):
        with pytest.raises(SweepFolderError, match=rf"format_version: {number}[^$]*sweeper 9\.1"):
            touch(folder)


@pytest.mark.parametrize("damaged", ["{", "[]", "\\xff", "2"])
def test_a_number_that_cannot_be_read_is_told_as_such(folder, damaged):
    mark_format(folder)
    folder.format_file.write_text(damaged)
    with pytest.raises(SweepFolderError, match="format cannot be read"):
        begun_format(folder)
