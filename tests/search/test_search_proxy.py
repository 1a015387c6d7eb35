"""A proxy's best on the real thing: which comes next, and what is said of the order. Records made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from search_support import gather, train

from sweeper.search import (
    Evaluation,
    Ledger,
    TrialRecord,
    TrialState,
    best_of,
    chosen,
    contenders,
    edges,
    eligible,
    next_final,
    searched,
    transfer_of,
)
from sweeper.space import Space, load_space

SPACE = """\
name: demo
model_path: models/tiny
data_path: data.jsonl
training: {lr: {log_uniform: [1.0e-5, 1.0e-2]}, epochs: [1, 2, 3]}
"""


def space_of(folder: Path, search: str = "{proxy: {rows: 0.2, top: 2}}", more: str = "") -> Space:
    file = folder / "space.yaml"
    file.write_text(f"{SPACE}search: {search}\n{more}")
    return load_space(file, gather=gather)


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Space:
    return space_of(tmp_path_factory.mktemp("space"))


def record(number: int, value: float | None, state=TrialState.COMPLETE, **more) -> TrialRecord:
    evaluation = Evaluation(tokens=100, step=1, seconds=1.0, metrics={"eval/loss": value or 0.0})
    evaluations = () if value is None else (evaluation,)
    values = {"lr": 1e-4 * (number + 1), "epochs": 1}
    return TrialRecord(
        number=number, state=state, values=values, value=value, evaluations=evaluations, **more
    )


def on_proxy(values: list[float | None] = [2.5, 2.1, 2.2, 2.0, 2.6]) -> list[TrialRecord]:  # noqa: B006
    """Trial 3 is the best, then 1, then 2; trial 0 are the rules of thumb."""
    return [record(n, value, is_proxy=True, is_default=n == 0) for n, value in enumerate(values)]


def and_real(*pairs: tuple[int, float | None], state=TrialState.COMPLETE, of=None) -> list[TrialRecord]:
    records = on_proxy() if of is None else list(of)
    for number, value in pairs:
        ended = state if value is not None else TrialState.RUNNING
        records.append(record(len(records), value, ended, real_of=number, is_default=number == 0))
    return records


def test_the_best_train_on_the_real_thing_and_the_rules_of_thumb_last(space):
    assert next_final(space, on_proxy()) == 3
    assert next_final(space, and_real((3, None))) == 1
    assert next_final(space, and_real((3, 1.0), (1, None))) == 0
    assert next_final(space, and_real((3, 1.0), (1, 1.1), (0, 1.2))) is None


def test_rules_of_thumb_that_are_among_the_best_or_were_lost_train_once_or_never(space):
    best, one, both = on_proxy([2.0, 2.1, 2.2]), ((0, 1.0),), ((0, 1.0), (1, 1.0))
    assert [next_final(space, and_real(*done, of=best)) for done in ((), one, both)] == [0, 1, None]
    lost = [record(0, None, TrialState.FAIL, is_proxy=True, is_default=True), *on_proxy()[1:]]
    assert next_final(space, and_real((3, 1.0), (1, 1.0), of=lost)) is None


def test_what_fails_on_the_real_thing_makes_room_for_the_next_and_not_for_ever(space):
    failed = and_real((3, 9.0), state=TrialState.FAIL)
    assert next_final(space, failed) == 1
    assert next_final(space, and_real((1, 1.0), of=failed)) == 2
    every = and_real((3, 9.0), (1, 9.0), (2, 9.0), state=TrialState.FAIL)
    assert next_final(space, every) == 0  # three have failed: the rules of thumb, and no more
    assert next_final(space, and_real((0, 9.0), state=TrialState.FAIL, of=every)) is None


def test_what_a_budget_cut_short_or_a_driver_never_began_is_to_be_had_again(space):
    assert next_final(space, and_real((3, 2.0), state=TrialState.PRUNED)) == 3
    waiting = [*on_proxy(), record(5, None, TrialState.WAITING, real_of=3)]
    assert next_final(space, waiting) == 3


def test_paused_trials_by_their_chance_stand_in_where_few_were_trained_to_their_ends(space):
    records = [
        record(0, 2.0, is_proxy=True, is_default=True),
        record(1, 2.1, TrialState.PAUSED, is_proxy=True, chance=0.1),
        record(2, 2.2, TrialState.PAUSED, is_proxy=True, chance=0.2),
    ]
    assert next_final(space, and_real((0, 1.0), of=records)) == 2


def test_more_trials_on_the_proxy_may_send_others_and_those_that_are_there_stay(space):
    done = and_real((3, 1.0), (1, 1.1), (0, 1.2))
    more = [*done, record(len(done), 1.9, is_proxy=True)]
    assert next_final(space, more) == 8
    assert next_final(space, and_real((8, 1.3), of=more)) is None
    assert chosen(space, and_real((8, 1.3), of=more)).number == 5


def test_only_what_trained_on_the_real_thing_can_be_chosen(space):
    assert chosen(space, on_proxy()) is None
    records = and_real((3, 1.2), (1, 1.1), (0, 1.3))
    assert chosen(space, records).number == best_of(records, space.settings.objective).number == 6
    assert [one.number for one in contenders(space, records)] == [6]
    assert [one.number for one in eligible(records)] == [5, 6, 7]
    assert [one.number for one in searched(records)] == [0, 1, 2, 3, 4]


def test_the_order_is_told_by_pairs_and_by_what_became_of_the_best(space):
    found = transfer_of(space, and_real((3, 1.2), (1, 1.1), (0, 1.3)))
    assert [(one.proxy, one.real) for one in found.pairs] == [(3, 5), (1, 6), (0, 7)]
    assert (found.same_order, found.compared, found.tau) == (2, 3, pytest.approx(1 / 3))
    assert found.place_of_best == 2
    held = transfer_of(space, and_real((3, 1.0), (1, 1.1), (0, 1.3)))
    assert (held.tau, held.place_of_best) == (1.0, 1)
    lost = transfer_of(space, and_real((1, 1.1), (0, 1.3), of=and_real((3, 9.0), state=TrialState.FAIL)))
    assert lost.place_of_best is None and lost.compared == 1
    assert transfer_of(space, on_proxy()).tau is None


def test_more_is_better_under_max(tmp_path):
    space = space_of(tmp_path, more="objective: {metric: eval/token_accuracy}\n")
    assert next_final(space, on_proxy()) == 4
    found = transfer_of(space, and_real((4, 0.5), (0, 0.6)))
    assert (found.tau, found.place_of_best) == (-1.0, 2)


def test_a_sweep_without_a_proxy_has_no_order(tmp_path):
    assert transfer_of(space_of(tmp_path, "{trials: 3}"), [record(0, 2.0)]) is None


def test_ends_of_ranges_are_told_by_the_trials_on_the_proxy(tmp_path):
    space = space_of(tmp_path, "{proxy: {rows: 0.2}}")
    epochs = [1, 2, 3, 3, 1, 2]
    trials = [
        TrialRecord(
            number=n,
            state=TrialState.COMPLETE,
            values={"lr": 1e-3, "epochs": one},
            value=3.0 - one,
            evaluations=record(0, 1.0).evaluations,
            is_proxy=True,
        )
        for n, one in enumerate(epochs)
    ]
    assert [(one.name, one.value) for one in edges(space, trials)] == [("epochs", 3)]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_proposals_are_those_of_a_search_without_real_trials_in_between(tmp_path, sampler):
    space = space_of(tmp_path, f"{{trials: 8, sampler: {sampler}, proxy: {{rows: 0.2, top: 1}}}}")
    plain = Ledger.create(f"sqlite:///{tmp_path}/plain.db", space)
    mixed = Ledger.create(f"sqlite:///{tmp_path}/mixed.db", space)
    asked: dict[Ledger, list] = {plain: [], mixed: []}
    for index in range(8):
        for ledger in (plain, mixed):
            trial = ledger.ask()
            assert trial.is_proxy and trial.real_of is None
            asked[ledger].append(trial.values)
            train(ledger, trial, abs(math.log10(trial.values["lr"]) + 3))
        if index in (2, 5):
            again = mixed.train_real(next_final(space, mixed.trials()))
            assert again.real_of is not None and not again.is_proxy
            assert again.values == mixed.trial(again.real_of).values
            assert again.is_default == mixed.trial(again.real_of).is_default
            train(mixed, again, 0.0)
    assert asked[plain] == asked[mixed]


def test_a_real_trial_whose_driver_died_before_it_started_is_not_asked_for_twice(tmp_path, space):
    ledger = Ledger.create(f"sqlite:///{tmp_path}/study.db", space)
    for value in (2.0, 2.1):
        train(ledger, ledger.ask(), value)
    ledger._enqueue(ledger.trial(0).values, real_of=0, is_default=True)  # and then it was killed
    assert next_final(space, ledger.trials()) == 0
    real = ledger.train_real(0)
    assert (real.number, real.real_of, real.is_default, real.state) == (2, 0, True, TrialState.RUNNING)
    assert len(ledger.trials()) == 3
