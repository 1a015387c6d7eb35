"""As many places as are faster together, and no more."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.autotune import (
    Calibration,
    Places,
    Speed,
    Tried,
    Tuning,
    beside,
    hardware_text,
    known_places,
    most_that_fit,
    next_count,
    places_shape,
    shape_text,
    tuned,
    write_finding,
)
from sweeper.spec import SYSTEM, levers_of


def tried(places: int, tokens_per_s: float | None) -> Tried:
    return Tried(places=places, cpus_per_rank=1, tokens_per_s=tokens_per_s)


def found(*totals: float | None) -> Places:
    return Places(shape="{}", tried=tuple(tried(2**n, total) for n, total in enumerate(totals)))


def climbed(totals: list[float | None], most: int, **options: int) -> list[Tried]:
    """What is tried where so many places (1, 2, 4, ...) have these totals together."""
    done: list[Tried] = []
    while (count := next_count(done, most, **options)) is not None:
        done.append(tried(count, totals[len(done)]))
    return done


TOTALS = st.lists(st.none() | st.floats(1.0, 1e6), min_size=12, max_size=12)


@given(totals=TOTALS, most=st.integers(1, 2000))
def test_counts_double_up_to_the_most_and_end_at_the_first_that_is_not_faster(totals, most):
    done = climbed(totals, most)
    counts = [one.places for one in done]
    assert counts == [min(2**n, most) for n in range(len(counts))]
    speeds = [one.tokens_per_s for one in done]
    assert None not in speeds[:-1]
    faster = [later > max(speeds[:n]) for n, later in enumerate(speeds[:-1]) if n]
    assert all(faster)
    ended_early = counts[-1] < most
    if ended_early:
        assert speeds[-1] is None or speeds[-1] <= max(speeds[:-1])


@given(totals=TOTALS, most=st.integers(1, 2000))
def test_the_fewest_places_within_two_per_cent_of_the_best_are_taken(totals, most):
    places = Places(shape="{}", tried=tuple(climbed(totals, most)))
    speeds = {one.places: one.tokens_per_s or 0.0 for one in places.tried}
    best, taken = max(speeds.values()), places.taken
    assert speeds[taken.places] >= 0.98 * best
    assert all(speed < 0.98 * best for count, speed in speeds.items() if count < taken.places)


def test_a_little_more_is_not_worth_another_place():
    assert found(1000.0, 1015.0).taken.places == 1
    assert found(1000.0, 1700.0, 1720.0).taken.places == 2
    assert found(1000.0, 1700.0, 1720.0).gain == 1.7
    assert found(1000.0, None).taken.places == 1
    assert (found(None).taken.places, found(None).gain) == (1, 1.0)


def test_on_several_devices_places_that_share_the_first_say_nothing_of_the_second():
    totals = [1000.0, 990.0, 1980.0, 1970.0]
    assert [one.places for one in climbed(totals, 4, devices=2)] == [1, 2, 4]
    assert [one.places for one in climbed(totals, 4, devices=1)] == [1, 2]


def test_memory_holds_what_each_rank_takes_and_the_idle_process_of_each_further_one():
    one = dataclasses.replace(tried(1, 1.0), idle_gib=0.5, taken_gib=1.5)
    assert most_that_fit(4, one, ranks=2, free_gib=12.0) == 3  # 2 x (3 x 1.5 + 2 x 0.5) = 11.0
    assert most_that_fit(4, one, ranks=2, free_gib=11.0) == 2
    assert most_that_fit(2, one, ranks=2, free_gib=7.0) is None
    assert most_that_fit(16, one, ranks=1, free_gib=8.0, on_one_device=4) == 16  # four of them on each GPU
    assert most_that_fit(4, one, ranks=1, free_gib=6.0, on_one_device=4) == 3


@given(free=st.floats(0.0, 100.0), less=st.floats(0.0, 1.0), taken=st.floats(0.01, 9.0))
def test_less_memory_holds_no_more_places(free, less, taken):
    one = dataclasses.replace(tried(1, 1.0), idle_gib=0.5, taken_gib=taken)
    much, little = (most_that_fit(64, one, ranks=1, free_gib=gib) or 1 for gib in (free, less * free))
    assert 1 <= little <= much <= 64


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "known"))


def test_a_finding_is_found_again_for_its_shape_rows_and_hardware_only(cache, quick_config):
    shape = places_shape(quick_config(), "rows")
    assert known_places(shape) is None
    places = dataclasses.replace(found(1000.0, 1700.0), shape=shape)
    write_finding(places)
    assert known_places(shape) == places == Places.from_dict(json.loads(json.dumps(places.to_dict())))
    assert known_places(places_shape(quick_config(), "other rows")) is None
    assert known_places(places_shape(quick_config(per_device_batch_size=4), "rows")) is None
    write_finding(dataclasses.replace(places, hardware="another machine"))
    assert known_places(shape) is None


def test_a_finding_for_more_trials_than_there_are_is_cut():
    assert [one.places for one in found(1000.0, 1700.0, 3000.0).up_to(3).tried] == [1, 2]


def test_tunings_hold_beside_other_trials_at_the_speed_that_was_measured_there(quick_config):
    alone = quick_config(per_device_batch_size=8)
    alone = alone.model_copy(update={"resources": alone.resources.model_copy(update={"cpus_per_rank": 4})})
    shared = alone.model_copy(
        update={"resources": alone.resources.model_copy(update={"max_concurrent": 2, "cpus_per_rank": 2})}
    )
    speed = Speed(
        tokens_per_s=1000.0, spread=0.1, evaluated_tokens_per_s=3e3, cold_start_s=9.0, warm_start_s=0.1
    )
    tuning = Tuning(
        shape=shape_text(alone, SYSTEM),
        hardware=hardware_text(),
        global_batch_size=8,
        data="rows",
        levers=dataclasses.replace(levers_of(alone), per_device_batch_size=2, gradient_accumulation_steps=4),
        pass_tokens=150.0,
        speed=speed,
        probes=(),
        calibration=Calibration(),
        idle_gib=0.5,
        room_gib=4.0,
        seconds=1.0,
        made_s=0.0,
    )
    two = Tried(places=2, cpus_per_rank=2, tokens_per_s=1700.0, evaluated_tokens_per_s=2e3, cold_start_s=20.0)
    told = beside(Places(shape="{}", tried=(tried(1, 1000.0), two)), speed)
    assert tuned(shared, [tuning], SYSTEM).training.per_device_batch_size == 2
    longer = shared.model_copy(update={"training": shared.training.model_copy(update={"max_seq_len": 7})})
    assert tuned(longer, [tuning], SYSTEM) == longer
    assert told is not None
    assert (told.tokens_per_s, told.evaluated_tokens_per_s) == (850.0, 2e3)
    assert (told.cold_start_s, told.warm_start_s, told.places) == (20.0, 0.1, 2)
