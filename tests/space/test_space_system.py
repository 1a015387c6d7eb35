"""``auto`` for the system's fields: what is fastest and fits, at a global batch that nobody touches."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import SpaceFileError
from sweeper.space import SYSTEM, Facts, Space, SystemConfig, dump_config, load_space, split_of, with_system

FACTS = Facts(train_rows=2_000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
HEAD = "name: a\nmodel_path: builtin:quickstart\ndata_path: builtin:quickstart\n"
AUTO = (
    "training: {lr: auto, per_device_batch_size: auto, packing: auto, "
    "gradient_accumulation_steps: [1, 2, 4, 8]}\n"
    "deepspeed: {zero_stage: auto, gradient_checkpointing: auto, offload: auto}\n"
)


def space_of(tmp_path: Path, text: str) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text(HEAD + text)
    return load_space(file, gather=lambda _: FACTS)


def test_written_auto_is_left_to_measuring_and_absence_is_the_rule(tmp_path):
    assert space_of(tmp_path, AUTO).measured == SYSTEM
    assert space_of(tmp_path, "training: {lr: auto}\n").measured == frozenset()


def test_the_stored_file_leaves_to_measuring_what_was_left_to_it(tmp_path):
    space = space_of(tmp_path, AUTO)
    (tmp_path / "stored.yaml").write_text(dump_config(space.resolved()))
    again = load_space(tmp_path / "stored.yaml", gather=lambda _: FACTS)
    assert again.measured == space.measured and again == space


def test_an_open_field_is_searched_and_not_measured(tmp_path):
    space = space_of(tmp_path, "training: {lr: auto}\ndeepspeed: {zero_stage: [1, 2], offload: auto}\n")
    assert space.measured == {"deepspeed.offload"}


def test_a_global_batch_that_ranks_cannot_share_names_the_nearest_that_they_can(tmp_path):
    text = "training: {lr: auto, global_batch_size: 10, per_device_batch_size: auto}\nparallel: {dp: 4}\n"
    with pytest.raises(SpaceFileError, match="the nearest global_batch_size is 8 or 12"):
        space_of(tmp_path, text)


@given(st.data())
def test_every_trial_keeps_its_global_batch_to_the_row(tmp_path_factory, data):
    dp = data.draw(st.sampled_from([1, 2, 3]))
    text = f"{AUTO}parallel: {{dp: {dp}}}\n"
    space = space_of(tmp_path_factory.mktemp("space"), text)
    asked = space.close({"gradient_accumulation_steps": data.draw(st.sampled_from([1, 2, 4, 8]))})
    rows = data.draw(st.integers(1, 100))
    levers = SystemConfig(
        per_device_batch_size=rows,
        gradient_accumulation_steps=1,
        gradient_checkpointing=data.draw(st.booleans()),
        zero_stage=data.draw(st.sampled_from([0, 1, 2, 3])),
        offload="none",
    )
    config = with_system(asked, levers, space.measured)
    training = config.training
    assert training.global_batch_size == asked.training.global_batch_size
    assert (
        training.per_device_batch_size * training.gradient_accumulation_steps * dp
        == training.global_batch_size
    )
    assert training.per_device_batch_size <= rows
    assert config.deepspeed.zero_stage == levers.zero_stage


def test_what_was_written_is_not_changed(tmp_path):
    space = space_of(
        tmp_path, "training: {lr: auto, per_device_batch_size: 4}\ndeepspeed: {zero_stage: auto}\n"
    )
    levers = SystemConfig(
        per_device_batch_size=32, gradient_accumulation_steps=1, gradient_checkpointing=True,
        zero_stage=1, offload="none",
    )  # fmt: skip
    config = with_system(space.close({}), levers, space.measured)
    assert config.training.per_device_batch_size == 4
    assert not config.deepspeed.gradient_checkpointing
    assert config.deepspeed.zero_stage == 1


def test_a_split_takes_the_most_rows_that_divide_the_batch(tmp_path):
    config = space_of(tmp_path, "training: {lr: auto, global_batch_size: 24}\n").close({})
    assert split_of(config, 7) == (6, 4)
    assert split_of(config, 100) == (24, 1)
    assert split_of(config, 1) == (1, 24)
