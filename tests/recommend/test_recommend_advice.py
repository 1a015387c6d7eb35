"""Advice: what is said where trials carry it, and that nothing is said where they do not."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_support import TEXT, bowl, record, space_of, sweep_of, values_of
from ruamel.yaml import YAML

from sweeper.recommend import advice, advice_lines, write_answer
from sweeper.search import TrialRecord
from sweeper.space import Space, SweepFolder


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Space:
    return space_of(tmp_path_factory.mktemp("space"))


def said(space: Space, trials: list[TrialRecord]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for one in advice(space, trials):
        told.setdefault(one.about, []).append(one.says)
    return told


@pytest.fixture(scope="module")
def clear(space) -> dict[str, list[str]]:
    """Forty trials of little noise: lr matters most, then scheduler and epochs; accumulation does nothing."""
    return said(space, sweep_of(space, 40, noise=0.01))


@pytest.fixture(scope="module", params=range(4))
def chance(request, space) -> dict[str, list[str]]:
    """Twenty-four trials that differ by chance alone."""
    return said(space, sweep_of(space, 24, lambda _: 1.0, noise=0.05, seed=request.param))


def test_a_value_that_beats_every_other_is_settled_with_its_lead(clear) -> None:
    assert len(clear["settled"]) == 1
    assert clear["settled"][0].startswith(
        "scheduler is settled: cosine is better than linear, the next best of 3, by"
    )
    assert "(95 % " in clear["settled"][0]


def test_values_that_do_nothing_do_not_matter_and_the_cheapest_is_named(space) -> None:
    def only_lr(values: dict[str, Any]) -> float:
        return 1.0 + 0.3 * math.log10(values["lr"] / 1e-3) ** 2

    told = said(space, sweep_of(space, 40, only_lr, noise=0.01))
    (epochs,) = [one for one in told["no matter"] if one.startswith("epochs")]
    assert (
        "differ by at most 0.0" in epochs
        and "take the cheapest, 1 (60 s a trial, others up to 180 s)" in epochs
    )
    assert all("scheduler is settled" not in one for one in told.get("settled", []))


def test_the_range_that_is_as_good_as_the_best_is_where_to_look_next(clear) -> None:
    (line,) = clear["next range"]
    low, high = (float(line.split()[place]) for place in (4, 6))
    assert line.startswith("look for lr between") and 1e-5 < low < 1e-3 < high < 1e-2 and high / low < 30


def test_a_best_at_an_end_is_told_where_what_lies_inside_is_worse(clear, space) -> None:
    (line,) = clear["edge"]
    assert (
        line.startswith("the best epochs, 3, lies at the upper end") and "write epochs: [1, 2, 3, 4]" in line
    )
    trials = sweep_of(space, 24, lambda one: 3 + 0.4 * math.log10(one["lr"]), noise=0.01)
    trials[1] = record(1, {**trials[1].values, "lr": 1.05e-5}, 0.95)
    falling = said(space, trials)
    assert falling["edge"][0].startswith("the best lr, 1.05e-05, lies at the lower end")
    assert "next range" not in falling


def test_the_value_that_made_the_difference_to_the_default_is_named(clear) -> None:
    (line,) = clear["difference"]
    assert line.startswith("lr made the difference: with the default's 2e-05")


def test_epochs_made_the_difference_where_they_did(space) -> None:
    trials = sweep_of(space, 30, lambda one: 2.0 - 0.3 * one["epochs"], noise=0.01)
    usual = {**space.default_values(), "epochs": 1}
    trials[0] = record(0, usual, 1.7)
    assert said(space, trials)["difference"][0].startswith("epochs made the difference: with the default's 1")


def test_whether_the_default_would_have_done(space, clear) -> None:
    assert clear["default"][0].startswith(
        "the default would not have done: the chosen trial is better by 0.8"
    )
    usual = space.default_values()

    def around_the_default(values: dict[str, Any]) -> float:
        return 1.0 + 0.3 * math.log10(values["lr"] / usual["lr"]) ** 2

    trials = sweep_of(space, 24, around_the_default, noise=0.005)
    trials[0] = record(0, usual, 0.9)
    assert said(space, trials)["default"] == [
        "the default would have done: none of 24 complete trials was chosen before it"
    ]
    trials[0] = record(0, usual, min(one.value or 9.0 for one in trials[1:]) + 0.002)
    assert said(space, trials)["default"][0].startswith(
        "the default would have done: the chosen trial is better by"
    )


def test_more_trials_help_while_the_best_is_not_found_and_not_when_it_is(tmp_path) -> None:
    few = space_of(tmp_path, TEXT.replace("lr: {log_uniform: [1.0e-5, 1.0e-2]}", "lr: [1.0e-4, 1.0e-3]"))
    rates, words, sizes = (1e-4, 1e-3), ("constant", "linear", "cosine"), (1, 2, 4)
    every = [
        {"lr": lr, "scheduler": word, "epochs": epochs, "gradient_accumulation_steps": size}
        for lr in rates
        for word in words
        for epochs in (1, 2, 3)
        for size in sizes
    ]
    rng = random.Random(0)
    all_tried = [record(place, one, bowl(one) + 0.001 * rng.gauss(0, 1)) for place, one in enumerate(every)]
    (line,) = said(few, all_tried)["more trials"]
    assert line.startswith("more trials are not likely to help: the next one is expected to gain 0")
    assert line.endswith("27 more would cost about 0.9 GPU hours")
    bad = [one for one in all_tried if one.values["scheduler"] != "cosine" and one.values["lr"] == 1e-4]
    told = said(few, bad)
    assert "not likely" not in "".join(told.get("more trials", []))


def test_trials_that_turned_are_overfitting_and_say_after_how_many_epochs(space) -> None:
    def turned(at: float) -> float:
        return 1.0 + 2.0 * (at - 0.6) ** 2

    values = [{**one, "epochs": 3} for one in values_of(space, 12)]
    trials = [record(number, one, 0.0, curve=turned, evaluations=10) for number, one in enumerate(values)]
    assert said(space, trials)["overfitting"] == [
        "overfitting: in 12 of 12 trials of 3 epochs eval/loss turned after 1.8 epochs and got worse by 0.32 "
        "to the end; train fewer epochs, or judge by the best evaluation (objective.at: best)"
    ]
    two = trials[:2] + [record(number, values[number], 1.0, evaluations=10) for number in range(2, 12)]
    assert "overfitting" not in said(space, two)


def test_a_last_wiggle_is_no_overfitting(space, clear) -> None:
    def wiggles(at: float) -> float:
        return 3.0 - 2.0 * at + (0.3 if at == 1.0 else 0.0)

    trials = [record(n, one, 0.0, curve=wiggles) for n, one in enumerate(values_of(space, 12))]
    assert "overfitting" not in said(space, trials) and "overfitting" not in clear


def test_of_trials_that_differ_by_chance_nothing_is_said_of_values(chance) -> None:
    assert set(chance) <= {"apart"}


def test_data_too_small_to_tell_trials_apart_is_told_with_its_numbers(space) -> None:
    (line,) = said(space, sweep_of(space, 24, lambda _: 1.0, noise=0.05, seed=3))["apart"]
    assert line.startswith(
        "the trials cannot be told apart by their values: 24 predict 0% of the differences"
    )
    assert "hold out more than 100 rows (eval_data)" in line


def test_candidates_that_are_tied_under_fresh_seeds_are_told(tmp_path) -> None:
    space = space_of(tmp_path, TEXT.replace("history: false", "history: false, confirm: {top: 2, seeds: 2}"))
    trials = sweep_of(space, 12, noise=0.01)
    first, second = sorted(trials, key=lambda one: one.value or 0.0)[:2]

    def runs(values: tuple[float, ...]) -> list[TrialRecord]:
        whose = ((first, 1), (first, 2), (second, 1), (second, 2))
        return [
            replace(record(12 + place, dict(one.values), value), replicate_of=one.number, seed=seed)
            for place, ((one, seed), value) in enumerate(zip(whose, values, strict=True))
        ]

    (line,) = said(space, [*trials, *runs((1.0, 1.1, 1.05, 1.06))])["apart"]
    assert line.startswith(
        "the best 2 cannot be told apart by 2 fresh seeds: they may differ by anything up to"
    )
    assert "apart" not in said(space, [*trials, *runs((1.0, 1.01, 1.5, 1.51))])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_of_few_trials_nothing_is_said(space, count) -> None:
    assert advice(space, sweep_of(space, count + 1, noise=0.0)[:count]) == []


def test_more_is_better_is_advised_like_less_is_better(tmp_path, space, clear) -> None:
    text = TEXT + "objective: {metric: eval/exact_match, mode: max}\n"
    turned = space_of(tmp_path, text)
    trials = [
        replace(
            one,
            value=3.0 - (one.value or 0.0),
            evaluations=tuple(
                replace(e, metrics={"eval/exact_match": 3.0 - e.metrics["eval/loss"]})
                for e in one.evaluations
            ),
        )
        for one in sweep_of(space, 40, noise=0.01)
    ]
    assert set(said(turned, trials)) >= {"edge", "default", "difference", "settled"}
    assert said(turned, trials)["default"][0].startswith("the default would not have done")


def test_the_answer_carries_the_three_most_important_as_comments(space, tmp_path: Path) -> None:
    trials = sweep_of(space, 40, noise=0.01)
    path = write_answer(space, trials, SweepFolder(tmp_path), {}, {})
    lines = path.read_text().splitlines()
    assert lines[:3] == [f"# {line}" for line in advice_lines(space, trials)]
    assert not lines[3].startswith("#") and YAML(typ="safe").load(path)["provenance"]["trials"] == 40
