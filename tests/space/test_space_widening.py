"""Open values that grow on one side, and ``search.extend``, which lets them."""

from __future__ import annotations

import pytest
from space_helpers import load_text, problems_of

from sweeper.space import Choice, Extend, IntRange, LogUniform, Uniform, as_tree, from_tree, wider
from sweeper.space.widening import is_sound, with_open_values

GROWN = {
    "log range up": ("lr: {log_uniform: [1.0e-6, 1.0e-4]}", "upper", LogUniform(1e-6, 1e-3)),
    "log range down": ("lr: {log_uniform: [1.0e-6, 1.0e-4]}", "lower", LogUniform(1e-7, 1e-4)),
    "log range to the field's bound": ("lr: {log_uniform: [0.1, 2]}", "upper", LogUniform(0.1, 10.0)),
    "log range at the field's bound": ("lr: {log_uniform: [0.1, 10]}", "upper", None),
    "linear by its width": ("weight_decay: {uniform: [0.1, 0.3]}", "upper", Uniform(0.1, 0.5)),
    "linear to zero": ("weight_decay: {uniform: [0.1, 0.3]}", "lower", Uniform(0.0, 0.3)),
    "linear at zero": ("weight_decay: {uniform: [0.0, 0.3]}", "lower", None),
    "half-way to an excluded one": ("lora: {dropout: {uniform: [0.0, 0.6]}}", "upper", Uniform(0.0, 0.8)),
    "whole numbers": ("epochs: {int: [2, 4]}", "upper", IntRange(2, 6)),
    "whole numbers above zero": ("epochs: {int: [2, 4]}", "lower", IntRange(1, 4)),
    "whole numbers on their step": (
        "gradient_accumulation_steps: {int: [8, 32], step: 8}",
        "upper",
        IntRange(8, 56, 8),
    ),
    "a list by its last ratio": ("lr: [1.0e-5, 3.0e-5, 1.0e-4]", "upper", Choice((1e-5, 3e-5, 1e-4, 3.3e-4))),
    "a list by its first ratio": (
        "lr: [1.0e-5, 3.0e-5, 1.0e-4]",
        "lower",
        Choice((3.3e-6, 1e-5, 3e-5, 1e-4)),
    ),
    "a list by its step": ("epochs: [1, 2, 3]", "upper", Choice((1.0, 2.0, 3.0, 4.0))),
    "a list that falls": ("warmup_ratio: [0.4, 0.2, 0.1]", "upper", Choice((0.8, 0.4, 0.2, 0.1))),
    "a list of whole numbers": ("lora: {rank: [4, 8, 16]}", "upper", Choice((4, 8, 16, 32))),
    "a list that begins at zero": ("weight_decay: [0.0, 0.01, 0.1]", "lower", None),
    "a list at the field's bound": ("gradient_accumulation_steps: [1, 2, 4]", "lower", None),
    "two numbers": ("weight_decay: [0.0, 0.1]", "upper", None),
    "words": ("scheduler: [constant, linear, cosine]", "upper", None),
    "seeds": ("seed: {int: [0, 9]}", "upper", None),
    "micro-batches": ("per_device_batch_size: [1, 2, 4]", "upper", None),
}


@pytest.mark.parametrize("case", GROWN)
def test_an_open_value_grows_on_one_side_and_never_beyond_what_its_field_allows(tmp_path, case):
    training, side, expected = GROWN[case]
    (dimension,) = load_text(tmp_path, f"training:\n  {training}\n").dimensions
    grown = wider(dimension, side, 10.0)
    assert grown == expected
    if grown is not None:
        assert from_tree(as_tree(grown)) == grown
        space = load_text(tmp_path, f"training:\n  {training}\n")
        wide = with_open_values(space, {dimension.name: grown})
        assert wide.default_values() == space.default_values()  # it starts where it started
        assert is_sound(wide)


def test_a_range_that_contradicts_another_field_is_told(tmp_path):
    text = "training: {scheduler: wsd, warmup_ratio: 0.3, decay_ratio: {uniform: [0.2, 0.5]}}\n"
    space = load_text(tmp_path, text)
    assert is_sound(space)
    assert not is_sound(with_open_values(space, {"decay_ratio": Uniform(0.2, 0.8)}))


ASKED = {
    "true": Extend(factor=10, times=2),
    "false": None,
    "{factor: 3}": Extend(factor=3, times=2),
    "{times: 1}": Extend(factor=10, times=1),
}


@pytest.mark.parametrize("written", ASKED)
def test_extend_is_a_switch_or_says_how_far_and_how_often(tmp_path, written):
    space = load_text(tmp_path, f"training: {{lr: auto}}\nsearch: {{extend: {written}}}\n")
    assert space.settings.search.extension == ASKED[written]
    assert load_text(tmp_path, "").settings.search.extension is None


REFUSED = ["{factor: 1}", "{factor: '3'}", "{times: 0}", "{fctor: 3}", "3", "yes", "[true]", "null", "auto"]


@pytest.mark.parametrize("written", REFUSED)
def test_what_is_no_extension_is_refused_with_what_to_write(tmp_path, written):
    (problem,) = problems_of(tmp_path, f"search:\n  extend: {written}\n")
    assert problem.where.startswith("s.yaml:5:")
    assert "true, false, or a mapping of factor (above 1, at most 1000) and times (1 to 10)" in problem.remedy
