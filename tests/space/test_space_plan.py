"""The plan says what a sweep will do, and what is odd about it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from space_helpers import FACTS, GPU_FACTS, load_text

from sweeper.errors import SpaceFileError
from sweeper.space import make_plan, render, require_hardware

OPEN = """\
training:
  lr: {log_uniform: [1e-3, 1e-2]}
  epochs: [1, 3]
  gradient_accumulation_steps: [1, 2]
  per_device_batch_size: 8
search: {trials: 10, time_budget: 2h}
"""


def shown(plan):
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(render(plan))
    return console.file.getvalue()


def test_batches_steps_and_rows_are_worked_out_for_the_smallest_and_the_largest_trial(tmp_path):
    plan = make_plan(load_text(tmp_path, OPEN, facts=replace(FACTS, train_rows=1001)))
    assert (plan.global_batch.low, plan.global_batch.high) == (8, 16)
    assert (plan.steps.low, plan.steps.high) == (1001 // 16, 3003 // 8)
    assert (plan.rows_per_trial.low, plan.rows_per_trial.high) == (62 * 16, 375 * 8)
    told = dict(plan.summary())
    assert plan.trials == 10
    assert told["whole sweep"] == "620 to 3,750 optimizer steps, 9,920 to 30,000 rows"
    assert told["rows"] == "1,001 trained on, 100 held out"


def test_it_tells_what_is_open_what_is_fixed_and_who_decided(tmp_path):
    plan = make_plan(load_text(tmp_path, OPEN))
    lines = [line.split("│")[1:-1] for line in shown(plan).splitlines() if line.startswith("│")]
    told = [[cell.strip() for cell in cells] for cells in lines]
    assert ["lr", "0.001 .. 0.01 (log)", "0.001 (the rule of thumb, 0.00013, is not among them)"] in told
    assert ["epochs", "1 | 3", "3"] in told
    origins = {one.name: one.origin for one in plan.fixed}
    assert origins["per_device_batch_size"] == "file"
    assert origins["scheduler"] == "rule"
    assert origins["weight_decay"] == "default"
    assert origins["global_batch_size"] == "follows"


def test_a_decay_that_no_trial_uses_is_not_shown(tmp_path):
    def shown(text):
        return {one.name: one.value for one in make_plan(load_text(tmp_path, text)).fixed}

    assert "decay_ratio" not in shown("training: {scheduler: [linear, cosine]}\n")
    assert shown("training: {scheduler: [linear, wsd]}\n")["decay_ratio"] == "0.2"
    assert shown("training: {scheduler: linear, decay_ratio: 0.1}\n")["decay_ratio"] == "0.1"


def test_the_terminal_shows_the_same_values(tmp_path):
    told = shown(make_plan(load_text(tmp_path, OPEN)))
    for piece in ("0.001 .. 0.01 (log)", "8 to 16 rows", "10 trials, sampler auto, stopper auto, 2h at most"):
        assert piece in told


def test_a_file_with_nothing_open_is_one_trial(tmp_path):
    plan = make_plan(load_text(tmp_path, ""))
    assert plan.trials == 1
    assert "starts at" not in shown(plan)


def test_a_grid_has_no_more_trials_than_combinations(tmp_path):
    text = """\
    training:
      scheduler: [linear, exponential]
      final_lr_ratio: {choice: [0.05, 0.1], when: {scheduler: exponential}}
    search: {sampler: grid, trials: 50}
    """
    plan = make_plan(load_text(tmp_path, text))
    assert plan.trials == 3
    assert any("the grid has 3 configurations" in note for note in plan.notes)


def test_it_notes_missing_gpus_short_trials_packing_and_an_unknown_width(tmp_path):
    text = "training: {packing: true}\nparallel: {dp: 16}\nresources: {gpus_per_rank: 1}\n"
    assert "16 GPUs, and this machine has none" in make_plan(load_text(tmp_path, text)).notes[0]
    notes = make_plan(load_text(tmp_path, text, facts=GPU_FACTS)).notes
    assert "16 GPUs, and 8 are here" in notes[0]
    assert any("fewer steps" in note for note in notes)
    unknown = make_plan(load_text(tmp_path, "", facts=replace(FACTS, hidden_size=None, train_rows=40))).notes
    assert any("width is not known" in note for note in unknown)
    assert any("evaluated 7 times at most" in note for note in unknown)


def test_it_notes_the_rows_that_are_left_out(tmp_path):
    facts = replace(FACTS, rows_bad=2, rows_leaked=1200)
    notes = make_plan(load_text(tmp_path, "", facts=facts)).notes
    assert "rows left out: 2 broken, 1,200 equal to a held-out row" in notes
    assert not any("left out" in note for note in make_plan(load_text(tmp_path, "")).notes)


def test_what_the_machine_cannot_hold_is_refused_before_anything_starts(tmp_path):
    text = OPEN + "parallel: {dp: [1, 8]}\nresources: {gpus_per_rank: 1}\ndeepspeed: {precision: fp16}\n"
    with pytest.raises(SpaceFileError) as error:
        require_hardware(load_text(tmp_path, text))
    said = [problem.rule for problem in error.value.problems]
    assert said == ["a trial asks for 8 GPUs, and this machine has none", "fp16 is for GPUs"]


def test_a_cluster_is_not_judged_by_this_machine(tmp_path):
    text = OPEN + "parallel: {dp: 8}\nresources: {gpus_per_rank: 1, ray_address: auto}\n"
    require_hardware(load_text(tmp_path, text))


def test_ranks_are_those_of_all_ways_of_spreading(tmp_path):
    plan = make_plan(load_text(tmp_path, "parallel: {dp: [1, 2], pp: 3}\n", facts=GPU_FACTS))
    assert (plan.ranks.low, plan.ranks.high) == (3, 6)
    assert any(one.name == "zero_stage" and one.value == "1" for one in plan.fixed)


def test_it_notes_the_rows_that_fill_no_global_batch(tmp_path):
    facts = replace(FACTS, train_rows=1001)
    text = "training: {epochs: [1, 2], per_device_batch_size: 4, gradient_accumulation_steps: 4}\n"
    notes = make_plan(load_text(tmp_path, text, facts=facts)).notes
    assert "2 to 9 rows at the end of a trial fill no global batch and are left out" in notes
    even = make_plan(load_text(tmp_path, text, facts=replace(FACTS, train_rows=1600))).notes
    assert not any("global batch" in note for note in even)
