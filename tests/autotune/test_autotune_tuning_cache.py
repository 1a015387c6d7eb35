"""A tuning is found again by its shape, and measured again where it does not hold."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sweeper.autotune import Speed, Tuning, hardware_text, reusable, shape_text, tuned
from sweeper.autotune.estimate.memory_model import Calibration
from sweeper.autotune.tuning import ProbeRecord, cache_file, read_tuning, write_tuning
from sweeper.data import prepare
from sweeper.data.model.sizes import model_sizes
from sweeper.space import SYSTEM, system_config_of

SIZES = model_sizes("builtin:quickstart")


@pytest.fixture
def config(quick_config):
    return quick_config(per_device_batch_size=8, gradient_accumulation_steps=2)


@pytest.fixture
def rows(config, tmp_path):
    return prepare(config, tmp_path / "cache")


@pytest.fixture
def tuning(config, rows, monkeypatch, tmp_path) -> Tuning:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "known"))
    levers = system_config_of(config)
    probe = ProbeRecord(
        levers=levers, tokens_per_s=900.0, spread=0.1, pass_tokens=150.0, predicted_gib=0.2,
        measured_gib=0.21, seconds=3.0,
    )  # fmt: skip
    return Tuning(
        shape=shape_text(config, SYSTEM),
        hardware=hardware_text(),
        global_batch_size=16,
        data=rows.fingerprint,
        levers=levers,
        pass_tokens=150.0,
        speed=Speed(
            tokens_per_s=900.0, spread=0.1, evaluated_tokens_per_s=3e3, cold_start_s=9.0, warm_start_s=0.1
        ),
        probes=(probe, dataclasses.replace(probe, tokens_per_s=None, measured_gib=None)),
        calibration=Calibration(passing=1.1),
        idle_gib=0.5,
        room_gib=4.0,
        seconds=30.0,
        made_s=1e9,
    )


def test_what_was_written_is_found_again(config, rows, tuning):
    file = write_tuning(tuning)
    assert read_tuning(tuning.shape) == tuning
    assert reusable(config, SYSTEM, SIZES, rows) == (tuning, "")
    assert file == cache_file(tuning.shape)


def test_another_shape_finds_nothing(config, rows, tuning, quick_config):
    write_tuning(tuning)
    for other in (quick_config(max_seq_len=64), quick_config(lora={"rank": 4}), quick_config(dp=2)):
        assert reusable(other, SYSTEM, SIZES, rows) == (None, "")
    assert reusable(config, SYSTEM - {"deepspeed.zero_stage"}, SIZES, rows) == (None, "")


def test_a_tuning_holds_beside_other_trials_with_other_cores_and_for_no_other_length(config, tuning):
    resources = config.resources.model_copy(update={"max_concurrent": 2, "cpus_per_rank": 2})
    beside_another = config.model_copy(update={"resources": resources})
    split = dataclasses.replace(tuning.levers, per_device_batch_size=2, gradient_accumulation_steps=8)
    tunings = [dataclasses.replace(tuning, levers=split)]
    assert tuned(beside_another, tunings, SYSTEM).training.per_device_batch_size == 2
    longer = config.training.model_copy(update={"max_seq_len": 7})
    longer = beside_another.model_copy(update={"training": longer})
    assert tuned(longer, tunings, SYSTEM) == longer


def test_a_tuning_of_other_hardware_is_measured_again(config, rows, tuning):
    write_tuning(dataclasses.replace(tuning, hardware="another machine"))
    found, why = reusable(config, SYSTEM, SIZES, rows)
    assert found is None and "measured on other hardware (another machine)" in why


def test_a_tuning_that_a_smaller_global_batch_bounded_is_measured_again(rows, tuning, quick_config):
    whole = dataclasses.replace(tuning.levers, per_device_batch_size=16, gradient_accumulation_steps=1)
    write_tuning(dataclasses.replace(tuning, levers=whole))
    larger = quick_config(per_device_batch_size=8, gradient_accumulation_steps=8)
    found, why = reusable(larger, SYSTEM, SIZES, rows)
    assert found is None and "smaller global batch" in why


def test_for_other_rows_passes_are_made_as_full_as_they_were(config, rows, tuning):
    write_tuning(dataclasses.replace(tuning, data="other rows", pass_tokens=4 * 18.0))
    found, why = reusable(config, SYSTEM, SIZES, rows)
    mean_row = float(rows.train.lengths.mean())
    assert why == "" and found is not None and found.data == rows.fingerprint
    assert found.levers.per_device_batch_size in (2, 4, 8)
    assert found.levers.per_device_batch_size * mean_row < 2.1 * 72
    assert found.levers.per_device_batch_size * found.levers.gradient_accumulation_steps == 16


def test_other_rows_that_would_not_fit_are_measured(config, rows, tuning):
    write_tuning(dataclasses.replace(tuning, data="other rows", room_gib=0.01))
    found, why = reusable(config, SYSTEM, SIZES, rows)
    assert found is None and "would not fit" in why


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"shape": 3}', "\x00"])
def test_a_broken_file_is_as_good_as_none(config, rows, tuning, content):
    file = write_tuning(tuning)
    file.write_text(content)
    assert reusable(config, SYSTEM, SIZES, rows) == (None, "")
    file.write_text(json.dumps({**dataclasses.asdict(tuning), "of another version": 1}))
    assert read_tuning(tuning.shape) is None
