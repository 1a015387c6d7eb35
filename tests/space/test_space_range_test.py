"""``range_test`` beside lr: what a file may ask of an LR range test, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

from space_helpers import load_text

from sweeper.space import LogUniform, RangeTest, dump_config, make_plan

ALONE = "training: {lr: {range_test: true}}\n"
WITHIN = "training: {lr: {log_uniform: [1e-5, 1e-3], range_test: true}}\n"


def test_alone_it_stands_for_the_range_of_auto_until_there_is_a_better_one(tmp_path):
    space, auto = load_text(tmp_path, ALONE), load_text(tmp_path, "training: {lr: auto}\n")
    assert space.range_test == RangeTest(within=None)
    assert replace(space, range_test=None) == auto != space


def test_beside_a_range_it_leaves_the_range_as_it_is(tmp_path):
    space = load_text(tmp_path, WITHIN)
    assert space.dimension("lr").open_value == LogUniform(1e-5, 1e-3)
    assert space.range_test == RangeTest(within=LogUniform(1e-5, 1e-3))


def test_an_override_asks_for_it_as_well(tmp_path):
    space = load_text(tmp_path, "training: {lr: 1e-4}\n", overrides=["lr={range_test: true}"])
    assert space == load_text(tmp_path, ALONE)


def test_the_resolved_file_asks_for_the_same_test(tmp_path):
    for text in (ALONE, WITHIN):
        space = load_text(tmp_path, text)
        assert load_text(tmp_path, dump_config(space.resolved()), head="") == space


def test_with_the_range_that_was_found_it_asks_for_no_test_and_starts_inside_it(tmp_path):
    found = LogUniform(2e-3, 5e-3)
    for text in (ALONE, WITHIN):
        space = load_text(tmp_path, text).with_lr_range(found)
        again = load_text(tmp_path, dump_config(space.resolved()), head="")
        assert again == space == load_text(tmp_path, "training: {lr: {log_uniform: [2e-3, 5e-3]}}\n")
        assert space.default_values()["lr"] == 2e-3 and space.dimension("lr").default_clipped


def test_a_plan_says_that_the_range_is_not_the_last_word(tmp_path):
    for text, word in ((ALONE, "replaces"), (WITHIN, "narrows")):
        assert any(
            "LR range test" in note and word in note for note in make_plan(load_text(tmp_path, text)).notes
        )
    assert not any(
        "range test" in note for note in make_plan(load_text(tmp_path, "training: {lr: auto}")).notes
    )
