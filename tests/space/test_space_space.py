"""What a space file means: closed and open values, conditions, rules of thumb, closing a trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from space_helpers import FACTS, GPU_FACTS, load_text

from sweeper.errors import SpaceFileError
from sweeper.space import Choice, IntRange, LogUniform, Uniform, dump_config


@pytest.mark.parametrize("written", ["1e-5", "1E-5", "1.0e-5", "0.00001", "+1e-5", "1.e-5"])
def test_a_number_is_a_number_however_people_write_it(written, tmp_path):
    assert load_text(tmp_path, f"training: {{lr: {written}}}").closed["training.lr"] == 1e-5


def test_every_open_form_is_read(tmp_path):
    space = load_text(
        tmp_path,
        """\
        training:
          lr: {log_uniform: [1e-5, 1e-3]}
          scheduler: [linear, cosine]
          warmup_ratio: {uniform: [0, 0.1]}
          epochs: {int: [1, 5], step: 2}
          lora: {rank: {choice: [8, 32]}, alpha: 16}
        """,
    )
    assert {one.name: one.open_value for one in space.dimensions} == {
        "lr": LogUniform(1e-5, 1e-3),
        "scheduler": Choice(("linear", "cosine")),
        "warmup_ratio": Uniform(0.0, 0.1),
        "epochs": IntRange(1, 5, 2),
        "lora.rank": Choice((8, 32)),
    }
    assert space.dimensions[-1].path == "training.lora.rank"
    assert space.close({"lora.rank": 32}).training.lora.rank == 32


def test_an_absent_section_means_its_defaults(tmp_path):
    empty = load_text(tmp_path, "training:\ndeepspeed:\n")
    assert empty == load_text(tmp_path, "")
    assert empty.close({}).parallel.dp == 1


def test_an_override_wins_over_the_file_by_its_full_or_its_short_name(tmp_path):
    space = load_text(
        tmp_path,
        "training: {epochs: 3, lora: false}",
        overrides=["training.epochs=[1, 2]", "trials=5", "lora.rank=4", "time_budget=1h", "name=other"],
    )
    config = space.close({})
    assert [one.name for one in space.dimensions] == ["epochs"]
    assert (config.search.trials, config.search.time_budget_s) == (5, 3600)
    assert config.training.lora.rank == 4
    assert space.sweep_dir == Path("sweeps/other")


def test_lr_auto_opens_a_range_around_the_practice_and_an_absent_lr_is_the_practice(tmp_path):
    opened = load_text(tmp_path, "training: {lr: auto}").dimensions[0]
    closed = load_text(tmp_path, "").close({}).training.lr
    assert opened.default == opened.rule_of_thumb == closed == pytest.approx(1.3e-4)
    assert opened.open_value.low == pytest.approx(closed / 10)
    assert opened.open_value.high == pytest.approx(closed * 100)


def test_the_default_is_the_rule_of_thumb_or_the_nearest_allowed_value(tmp_path):
    space = load_text(
        tmp_path,
        """\
        training:
          lr: {log_uniform: [1e-4, 1e-2]}
          scheduler: [linear, constant]
          epochs: [1, 2, 3]
          lora: {rank: [8, 64]}
        """,
    )
    found = {one.name: (one.default, one.default_clipped, one.rule_of_thumb) for one in space.dimensions}
    assert found["lr"] == (3e-4, False, 3e-4)
    assert found["scheduler"] == ("linear", True, "cosine")
    assert found["epochs"] == (3, False, 3)
    assert found["lora.rank"] == (8, True, 16)


def test_the_nearest_of_options_beyond_all_measure_is_found(tmp_path):
    space = load_text(tmp_path, "training: {adam_epsilon: [4.0e-323, 1.0e+300], lora: {alpha: [1.0e-322]}}")
    assert [one.default for one in space.dimensions] == [1e300, 1e-322]


def test_a_condition_switches_a_dimension_off_and_its_field_takes_the_rule(tmp_path):
    space = load_text(
        tmp_path,
        """\
        training:
          final_lr_ratio: {uniform: [0.01, 0.2], when: {scheduler: exponential}}
          scheduler: [linear, exponential, constant]
        """,
    )
    assert [one.name for one in space.dimensions] == ["scheduler", "final_lr_ratio"]
    ratio = space.dimensions[1]
    assert ratio.when == (("scheduler", "exponential"),)
    assert ratio.default == 0.05, "the rule for the schedule that the condition names"
    assert not space.is_active(ratio, {"scheduler": "linear"})
    assert space.default_values() == {"scheduler": "linear"}
    assert space.close({"scheduler": "linear", "final_lr_ratio": 0.1}).training.final_lr_ratio == 0
    assert space.close({"scheduler": "constant"}).training.final_lr_ratio == 1
    assert space.close({"scheduler": "exponential"}).training.final_lr_ratio == 0.05
    assert space.close({"scheduler": "exponential", "final_lr_ratio": 0.1}).training.final_lr_ratio == 0.1


def test_what_depends_on_an_inactive_dimension_is_inactive(tmp_path):
    space = load_text(
        tmp_path,
        """\
        training:
          scheduler: [linear, cosine]
          epochs: {choice: [1, 2], when: {scheduler: linear}}
          seed: {choice: [1, 2], when: {epochs: 2}}
        """,
    )
    seed = space.dimension("seed")
    assert space.is_active(seed, {"scheduler": "linear", "epochs": 2})
    assert not space.is_active(seed, {"scheduler": "cosine", "epochs": 2})


def test_a_condition_on_a_closed_field_that_holds_is_accepted(tmp_path):
    space = load_text(
        tmp_path, "training: {scheduler: linear, epochs: {choice: [1, 2], when: {scheduler: linear}}}"
    )
    assert space.is_active(space.dimensions[0], {})


def test_what_follows_from_an_open_value_is_decided_for_each_trial(tmp_path):
    space = load_text(
        tmp_path,
        """\
        training: {scheduler: [linear, exponential], per_device_batch_size: [4, 8], global_batch_size: 16}
        deepspeed: {offload: [none, all]}
        """,
    )
    assert set(space.following()) == {
        "training.final_lr_ratio",
        "training.gradient_accumulation_steps",
        "deepspeed.zero_stage",
    }
    config = space.close({"scheduler": "exponential", "per_device_batch_size": 4, "offload": "all"})
    assert config.training.final_lr_ratio == 0.05
    assert config.training.gradient_accumulation_steps == 4
    assert config.deepspeed.zero_stage == 3


def test_closing_refuses_an_unknown_name_and_a_wrong_value(tmp_path):
    space = load_text(tmp_path, "training: {scheduler: [linear, cosine]}")
    with pytest.raises(SpaceFileError, match=r"shedule: is not an open value.*\n.*did you mean scheduler"):
        space.close({"shedule": "linear"})
    with pytest.raises(SpaceFileError, match=r"s.yaml:4:23: never: scheduler must be one of"):
        space.close({"scheduler": "never"})


def test_a_metric_that_is_better_when_higher_is_maximised(tmp_path):
    space = load_text(tmp_path, "objective: {metric: eval/token_accuracy}")
    assert space.settings.objective.mode == "max"


def test_the_machine_decides_resources_and_precision(tmp_path):
    cpu = load_text(tmp_path, "parallel: {dp: 2}").close({})
    gpu = load_text(tmp_path, "parallel: {dp: 2}", facts=GPU_FACTS).close({})
    shared = load_text(tmp_path, "resources: {gpus_per_rank: 0.5}", facts=GPU_FACTS).close({})
    assert (cpu.resources.gpus_per_rank, cpu.resources.max_concurrent, cpu.resources.cpus_per_rank) == (
        0,
        4,
        1,
    )
    assert (gpu.resources.gpus_per_rank, gpu.resources.max_concurrent, gpu.resources.cpus_per_rank) == (
        1,
        4,
        8,
    )
    assert shared.resources.max_concurrent == 16
    assert (cpu.deepspeed.precision, gpu.deepspeed.precision) == ("fp32", "bf16")


def test_the_largest_trial_decides_how_many_run_at_once(tmp_path):
    space = load_text(tmp_path, "parallel: {dp: [2, 4]}", facts=GPU_FACTS)
    assert space.close({"dp": 2}).resources.max_concurrent == 2
    assert (
        space.close({"dp": 2}).training.global_batch_size == space.close({"dp": 4}).training.global_batch_size
    )


def test_the_model_limits_the_default_length(tmp_path):
    short = replace(FACTS, max_position_embeddings=256)
    assert load_text(tmp_path, "", facts=short).close({}).training.max_seq_len == 256
    assert load_text(tmp_path, "").close({}).training.max_seq_len == 4096


def test_a_best_config_keeps_its_provenance_until_it_is_opened_again(tmp_path):
    text = "training: {lr: 1e-4}\nprovenance: {sweep: t, trial: 3, versions: {torch: '2.9'}}\n"
    closed = load_text(tmp_path, text)
    assert closed.close({}).provenance == {"sweep": "t", "trial": 3, "versions": {"torch": "2.9"}}
    assert "provenance:" in dump_config(closed.close({}))
    opened = load_text(tmp_path, text, overrides=["lr=auto"])
    assert opened.close({}).provenance is None
    assert "provenance" not in opened.resolved()


def test_a_best_config_is_opened_again_by_replacing_one_value(tmp_path):
    best = dump_config(load_text(tmp_path, "training: {lr: 1e-4}").close({}))
    again = load_text(tmp_path, best.replace("lr: 0.0001", "lr: {log_uniform: [1e-5, 1e-3]}"), head="")
    assert [one.name for one in again.dimensions] == ["lr"]


def test_what_is_dumped_is_read_alike_by_readers_of_older_yaml(tmp_path):
    dumped = dump_config(load_text(tmp_path, "training: {lr: 1e-5, adam_epsilon: 1e-8}").close({}))
    assert "lr: 1.0e-05" in dumped and "adam_epsilon: 1.0e-08" in dumped


def test_the_modules_of_adapters_are_opened_by_choice_and_a_list_of_them_is_one_value(tmp_path):
    closed = load_text(tmp_path, "training: {lora: {targets: [q_proj, v_proj]}}\n")
    assert closed.close({}).training.lora.targets == ("q_proj", "v_proj")
    text = 'training: {lora: {targets: {choice: [all-linear, "q_proj,v_proj"]}}}\n'
    (dimension,) = load_text(tmp_path, text).dimensions
    assert dimension.open_value == Choice(("all-linear", "q_proj,v_proj"))
    assert dimension.default == "all-linear"
    space = load_text(tmp_path, text)
    assert space.close({"lora.targets": "q_proj,v_proj"}).training.lora.targets == "q_proj,v_proj"
    assert space.resolved()["training"]["lora"]["targets"] == {"choice": ["all-linear", "q_proj,v_proj"]}
