"""What one sweep takes of the others, and how alike sweeps are."""

from __future__ import annotations

import dataclasses

import pytest
from history_support import LLAMA, past_sweep, past_trial
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import SweepFolderError
from sweeper.history import Features, lr_ratio, read_snapshot, similarity, take_snapshot, write_snapshot
from sweeper.space import rule_of_thumb_lr


def trials(count: int, offset: float = 0.0) -> list:
    return [past_trial(number, 1.0 + offset + number, lr=1e-4 * (number + 1)) for number in range(count)]


def taken(*sweeps, features=LLAMA, **options):
    asked = {"own_id": "own", "metric": "eval/loss", "mode": "min"} | options
    return take_snapshot(sweeps, features, **asked)


def names(snapshot) -> list[str]:
    return [one.facts.name for one in snapshot.sweeps]


def test_other_metrics_modes_and_the_sweep_itself_never_mix():
    snapshot = taken(
        past_sweep("same", trials(3)),
        past_sweep("accuracy", trials(3, 1), metric="eval/exact_match"),
        past_sweep("max", trials(3, 2), mode="max"),
        past_sweep("own", trials(3, 3)),
        own_id="own-id",
    )
    assert names(snapshot) == ["same"]


def test_an_experiment_that_was_imported_twice_counts_once():
    again = past_sweep("copy", trials(4), began_s=2.0)
    snapshot = taken(past_sweep("first", trials(4)), again)
    assert names(snapshot) == ["copy"]
    more = past_sweep("more", [*trials(4), *[past_trial(9 + k, 7.0 + k, lr=k + 1.0) for k in range(3)]])
    assert [len(one.trials) for one in taken(more, again).sweeps] == [4, 3]


def test_a_sweep_of_two_trials_is_of_no_use():
    assert names(taken(past_sweep("two", trials(2)))) == []


def test_the_most_similar_sweeps_are_used_and_no_more_than_can_be_fitted():
    other = dataclasses.replace(LLAMA, model_type="qwen3")
    sweeps = [past_sweep(f"far{k}", trials(3, 10 * k), other) for k in range(1, 40)]
    snapshot = taken(*sweeps, past_sweep("near", trials(1000)))
    assert names(snapshot)[0] == "near" and len(snapshot.sweeps) == 30
    assert len(snapshot.sweeps[0].trials) == 150
    assert list(snapshot.similarities) == sorted(snapshot.similarities, reverse=True)


def test_a_snapshot_comes_back_as_it_was_and_a_changed_one_is_refused(tmp_path):
    file = tmp_path / "history.json"
    snapshot = taken(past_sweep("one", [*trials(3), past_trial(3, None)]))
    code = write_snapshot(snapshot, file)
    assert read_snapshot(file, code) == snapshot
    file.write_text(file.read_text().replace("llama", "lamma"))
    with pytest.raises(SweepFolderError, match="not the history that the sweep began with"):
        read_snapshot(file, code)
    file.unlink()
    with pytest.raises(SweepFolderError, match="cannot be read"):
        read_snapshot(file, code)


features = st.builds(
    Features,
    model=st.just("m"),
    model_type=st.sampled_from(["llama", "qwen3", None]),
    parameters=st.none() | st.integers(1, 10**12),
    hidden_size=st.none() | st.integers(8, 10**5),
    lora=st.sampled_from([True, False, None]),
    train_rows=st.none() | st.integers(0, 10**9),
)


@given(one=features, other=features)
def test_likeness_is_symmetric_at_most_one_and_one_for_the_same(one, other):
    assert 0.0 < similarity(one, other) <= 1.0
    assert similarity(one, other) == pytest.approx(similarity(other, one))
    assert similarity(one, one) == 1.0


@given(one=features, other=features)
def test_learning_rates_count_by_their_ratio_to_the_rule_of_thumb(one, other):
    ratio = lr_ratio(one, other)
    assert ratio * lr_ratio(other, one) == pytest.approx(1.0)
    if None not in (one.hidden_size, other.hidden_size):
        then, now = (
            rule_of_thumb_lr(f.hidden_size, lora=bool(f.lora), model_type=f.model_type) for f in (other, one)
        )
        assert then * ratio == pytest.approx(now)


def test_a_model_of_twice_the_size_is_less_like_and_other_families_less_still():
    twice = dataclasses.replace(LLAMA, parameters=2 * 10**9)
    qwen = dataclasses.replace(LLAMA, model_type="qwen3")
    adapters = dataclasses.replace(LLAMA, lora=True)
    assert 1.0 > similarity(LLAMA, twice) > similarity(LLAMA, adapters) > similarity(LLAMA, qwen)
