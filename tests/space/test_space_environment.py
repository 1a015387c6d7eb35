"""``resources.env``: what the environment of every rank has, and which values stand in no file."""

from __future__ import annotations

import pytest
from space_helpers import load_text

from sweeper.errors import SpaceFileError, UserError
from sweeper.space import environment

OPEN = "training: {lr: auto}\nresources: {env: [%s]}\n"


def test_a_value_is_the_files_and_a_name_alone_has_the_one_of_the_command():
    asked = ("NCCL_DEBUG=INFO", "OPTIONS=-a=1 -b", "EMPTY=", "HF_TOKEN")
    assert environment(asked, {"HF_TOKEN": "t", "OTHER": "o"}) == {
        "NCCL_DEBUG": "INFO",
        "OPTIONS": "-a=1 -b",
        "EMPTY": "",
        "HF_TOKEN": "t",
    }


def test_every_name_that_has_no_value_is_said():
    with pytest.raises(UserError) as caught:
        environment(("HF_TOKEN", "A=1", "WANDB_API_KEY"), {})
    assert [one.value for one in caught.value.problems] == ["HF_TOKEN", "WANDB_API_KEY"]
    assert "-> export HF_TOKEN=..., or take it out" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "name"), [("HF_TOKEN=hf_hidden", "HF_TOKEN"), ("PROXY=http://me:hf_hidden@proxy", "PROXY")]
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path, written, name):
    with pytest.raises(SpaceFileError) as caught:
        load_text(tmp_path, OPEN % f'"{written}"')
    assert f"the value of {name} is a secret" in str(caught.value)
    assert f"write only the name, {name}, and export it" in str(caught.value)
    assert "hf_hidden" not in str(caught.value)


def test_what_is_no_variable_is_refused(tmp_path):
    with pytest.raises(SpaceFileError, match="a list, each of it NAME=value or NAME"):
        load_text(tmp_path, OPEN % '"two words"')
