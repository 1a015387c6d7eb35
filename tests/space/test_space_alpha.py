"""LoRA's alpha as a multiple of the rank: one dimension, and an alpha in every closed configuration."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from space_helpers import load_text, problems_of

from sweeper.space import json_schema, lasting_tree


def lora(text: str) -> str:
    return f"training:\n  lora: {{{text}}}\n"


def test_alpha_follows_the_rank_of_each_trial(tmp_path):
    space = load_text(tmp_path, lora("rank: [8, 32], alpha: {ratio: [0.5, 1, 2]}"))
    assert [one.name for one in space.dimensions] == ["lora.rank", "lora.alpha_ratio"]
    for rank in (8, 32):
        for ratio in (0.5, 1, 2):
            closed = space.close({"lora.rank": rank, "lora.alpha_ratio": ratio}).training.lora
            assert (closed.rank, closed.alpha, closed.alpha_ratio) == (rank, ratio * rank, None)


def test_the_search_starts_at_the_ratio_of_the_defaults(tmp_path):
    space = load_text(tmp_path, lora("rank: [8, 32], alpha: {ratio: {log_uniform: [0.25, 8]}}"))
    assert space.default_values() == {"lora.rank": 8, "lora.alpha_ratio": 2.0}


def test_one_ratio_is_the_same_for_every_rank(tmp_path):
    space = load_text(tmp_path, lora("rank: [8, 32], alpha: {ratio: 2}"))
    assert [space.close({"lora.rank": rank}).training.lora.alpha for rank in (8, 32)] == [16, 64]
    assert load_text(tmp_path, lora("alpha: {ratio: 0.5}")).close({}).training.lora.alpha == 8


def test_two_ways_to_the_same_alpha_are_the_same_training(tmp_path):
    tied = load_text(tmp_path, lora("rank: 8, alpha: {ratio: 2}")).close({}).training
    plain = load_text(tmp_path, lora("rank: 8, alpha: 16")).close({}).training
    assert lasting_tree(tied, "training") == lasting_tree(plain, "training")
    assert "alpha_ratio" not in lasting_tree(plain, "training")["lora"]


@pytest.mark.parametrize("written", ["alpha: {ratio: [0.5, 1]}", "alpha: {ratio: 2}", "alpha: [8, 16]"])
def test_the_resolved_file_asks_the_same(tmp_path, written):
    from sweeper.space import dump_config

    space = load_text(tmp_path, lora(written))
    again = load_text(tmp_path, dump_config(space.resolved()), head="")
    assert again == space


def test_an_override_may_tie_it(tmp_path):
    override = "training.lora.alpha={ratio: [1, 2]}"
    space = load_text(tmp_path, lora("rank: 8"), overrides=[override])
    assert space.dimension("lora.alpha_ratio") is not None


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("alpha: 16, alpha_ratio: 2", "one follows from the other"),
        ("alpha: [16, 32], alpha_ratio: [1, 2]", "one follows from the other"),
        ("alpha: {ratio: 0}", "alpha_ratio must be a number > 0"),
        ("alpha: {ratio: [1, -1]}", "alpha_ratio must be a number > 0"),
        ("alpha: {ratio: 2, of: rank}", "holds one value"),
    ],
)
def test_what_says_it_twice_or_is_no_ratio_is_refused(tmp_path, written, rule):
    (found,) = problems_of(tmp_path, lora(written))
    assert rule in found.rule


def test_editors_know_the_form():
    tree = {"name": "t", "model_path": "m", "data_path": "d"}
    check = Draft202012Validator(json_schema())
    forms = [({"ratio": [0.5, 1]}, True), ({"ratio": {"uniform": [1, 2]}}, True), ({"of": 1}, False)]
    for alpha, good in forms:
        assert check.is_valid({**tree, "training": {"lora": {"alpha": alpha}}}) == good
