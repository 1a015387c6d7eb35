"""Past sweeps in a new one's search: real ledgers, made-up losses."""

from __future__ import annotations

import dataclasses
import math

import pytest
from search_support import MIXED, train

from sweeper.history import Features, PastTrial, SweepFacts, SweepOfHistory, take_snapshot
from sweeper.search import Ledger, Past
from sweeper.search.auto.coordinates import Coordinates

FEATURES = Features(model="m", model_type="llama", hidden_size=2048, lora=False)
LR = "\n  lr: {log_uniform: [1.0e-6, 1.0e-2]}\n  scheduler: [constant, cosine]\n"


def past_sweep(losses: dict[float, float | None], features=FEATURES, **training) -> SweepOfHistory:
    """One trial for each lr; None: it diverged."""
    trials = tuple(
        PastTrial(
            number=number,
            state="FAIL" if loss is None else "COMPLETE",
            config={"training": {"lr": lr, "scheduler": "cosine", **training}},
            evaluations=((500.0, 3.0), (1000.0, loss)),
            total_tokens=1000.0,
        )
        for number, (lr, loss) in enumerate(losses.items())
    )
    facts = SweepFacts(id="past", name="past", metric="eval/loss", mode="min", began_s=1.0, features=features)
    return SweepOfHistory(facts=facts, trials=trials)


def past_of(space, *sweeps, features=FEATURES) -> Past:
    return Past(space, take_snapshot(sweeps, features, own_id="own", metric="eval/loss", mode="min"))


def bowl(best: float) -> dict[float, float | None]:
    """Losses of eight learning rates, the smallest near ``best``; the largest rates diverge."""
    rates = [10 ** (-6 + 4 * k / 7) for k in range(8)]
    return {lr: 1.0 + abs(math.log10(lr / best)) if lr < 5e-3 else None for lr in rates}


def test_the_first_trial_is_what_past_sweeps_found_and_the_second_the_rule_of_thumb(space_of, url):
    space = space_of(LR)
    ledger = Ledger.create(url, space)
    past = past_of(space, past_sweep(bowl(1e-3)))
    first = ledger.ask(past=past)
    assert 10**-3.6 < first.values["lr"] < 10**-2.4 and not first.is_default
    train(ledger, first, 2.0, 1.0)
    second = ledger.ask(past=past)
    assert second.values == space.default_values() and second.is_default


def test_without_past_sweeps_the_first_trial_is_the_rule_of_thumb(space_of, url):
    space = space_of(LR)
    ledger = Ledger.create(url, space)
    first = ledger.ask(past=past_of(space))
    assert first.values == space.default_values() and first.is_default


def test_a_history_that_misleads_costs_a_few_trials_and_no_more(space_of, url):
    space = space_of(LR)
    ledger = Ledger.create(url, space)
    past = past_of(space, past_sweep(bowl(2e-6)), past_sweep(bowl(4e-6)))
    losses = []
    for _ in range(14):
        record = ledger.ask(past=past)
        losses.append(
            1 + abs(math.log10(record.values["lr"] / 1e-3)) + 0.1 * (record.values["scheduler"] == "cosine")
        )
        train(ledger, record, losses[-1] + 1, losses[-1])
    assert min(losses) < 1.25


def test_what_is_asked_depends_on_the_snapshot_and_the_ledger_only(space_of, tmp_path):
    asked = []
    for again in range(2):
        space = space_of(MIXED, name="same")
        url = f"sqlite:///{tmp_path / f'{again}.db'}"
        ledger = Ledger.create(url, space)
        past = past_of(space, past_sweep(bowl(1e-4), epochs=3.0))
        values = []
        for _ in range(6):
            if again:  # a new driver for each trial
                ledger, past = Ledger.open(url, space), past_of(space, past_sweep(bowl(1e-4), epochs=3.0))
            record = ledger.ask(past=past)
            values.append(record.values)
            train(ledger, record, 3.0, 1 + abs(math.log10(record.values["lr"]) + 4))
        asked.append(values)
    assert asked[0] == asked[1]


def test_learning_rates_of_another_model_count_by_their_ratio_to_its_rule(space_of):
    space = space_of(LR)
    smaller = dataclasses.replace(FEATURES, hidden_size=512)
    coordinates = Coordinates(space)
    sweeps = [past_sweep(bowl(1e-4), one) for one in (FEATURES, smaller)]
    past = past_of(space, sweeps[1])
    same, moved = (past._past_sweep(sweep, 1.0, coordinates).points[:, 0] for sweep in sweeps)
    lower = math.log10((512 / 2048) ** 0.781) / 4  # of four decades; the rule has two digits
    assert moved - same == pytest.approx([lower] * 8, abs=0.01)


def test_options_that_this_space_does_not_have_are_left_out_and_far_values_stay_near(space_of):
    space = space_of(LR)
    coordinates = Coordinates(space)
    exponential = past_sweep(bowl(1e-4), scheduler="exponential")
    assert len(past_of(space)._past_sweep(exponential, 1.0, coordinates).points) == 0
    far = past_of(space)._past_sweep(past_sweep({1e-30: 1.0, 1e30: 2.0}), 1.0, coordinates)
    assert far.points[:, 0].tolist() == [-1.0, 2.0]


def test_a_field_that_a_past_sweep_does_not_tell_lies_at_its_default(space_of):
    space = space_of(MIXED)
    past = past_of(space)._past_sweep(past_sweep({1e-4: 1.0}), 1.0, Coordinates(space))
    default = Coordinates(space).point({**space.default_values(), "lr": 1e-4, "scheduler": "cosine"})
    assert past.points[0] == pytest.approx(default)


def test_diverged_trials_are_the_worst_and_only_curves_that_ended_are_learned_from(space_of):
    space = space_of(LR)
    sweep = past_sweep({1e-4: 1.0, 3e-4: 1.2, 1e-3: 1.1, 5e-3: None})
    past = past_of(space, sweep)
    assert past._past_sweep(sweep, 1.0, Coordinates(space)).losses.tolist() == [1.0, 1.2, 1.1, math.inf]
    (curves,) = past.curves
    assert [curve.losses for curve in curves] == [(3.0, 1.0), (3.0, 1.2), (3.0, 1.1)]
