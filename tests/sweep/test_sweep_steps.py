"""The file of a trial's steps survives whatever kills its writer."""

from __future__ import annotations

import json
import math

import pytest

from sweeper.sweep.steps import append_steps, read_steps
from sweeper.training import StepMetrics


def step(number: int, loss: float = 1.5, grad_norm: float | None = 0.25) -> StepMetrics:
    return StepMetrics(
        step=number, tokens=100 * number, loss=loss, lr=1e-3, grad_norm=grad_norm, time_s=1e9 + number / 3
    )


def test_what_is_read_is_what_was_written_to_the_last_bit(tmp_path):
    file = tmp_path / "trials" / "0" / "steps.jsonl"
    steps = [step(1, loss=1 / 3), step(2, grad_norm=None), step(3, loss=math.inf)]
    append_steps(file, steps[:1])
    append_steps(file, steps[1:])
    assert read_steps(file) == steps
    assert {"step", "tokens", "loss", "lr", "grad_norm", "time_s"} == set(json.loads(file.open().readline()))


def test_a_norm_that_is_not_a_number_is_strict_json(tmp_path):
    append_steps(tmp_path / "steps.jsonl", [step(1, grad_norm=math.nan)])
    refuse = pytest.fail
    json.loads((tmp_path / "steps.jsonl").read_text(), parse_constant=refuse)
    assert math.isnan(read_steps(tmp_path / "steps.jsonl")[0].grad_norm)


def test_a_trial_without_steps_has_none(tmp_path):
    append_steps(tmp_path / "steps.jsonl", [])
    assert read_steps(tmp_path / "steps.jsonl") == []


def test_a_step_that_is_repeated_from_a_checkpoint_stands_once_as_it_was_last(tmp_path):
    append_steps(tmp_path / "steps.jsonl", [step(1), step(2, loss=9.0), step(3, loss=9.0)])
    append_steps(tmp_path / "steps.jsonl", [step(2), step(3), step(4)])
    assert read_steps(tmp_path / "steps.jsonl") == [step(1), step(2), step(3), step(4)]


def test_a_file_cut_anywhere_loses_only_the_line_that_was_cut(tmp_path):
    whole = tmp_path / "whole.jsonl"
    append_steps(whole, [step(1), step(2)])
    content = whole.read_bytes()
    first = content.index(b"\n") + 1
    for length in range(len(content)):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[:length])
        kept = [step(n) for n, end in ((1, first), (2, len(content))) if length >= end - 1]
        assert read_steps(cut) == kept
        append_steps(cut, [step(3)])
        assert read_steps(cut) == [*kept, step(3)]
