"""The best trials under other seeds: what the runs say, and which one comes next. Records made by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats
from search_support import gather

from sweeper.search import (
    Evaluation,
    Ledger,
    TrialRecord,
    TrialState,
    asked_config,
    begun,
    best_of,
    chosen,
    confirmation_of,
    contenders,
    paired_difference,
)
from sweeper.space import Space, load_space

SPACE = """\
name: demo
model_path: models/tiny
data_path: data.jsonl
training: {lr: [1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2], seed: 7}
"""
SEEDS = (8, 9, 10, 11)


def space_of(folder: Path, search: str, text: str = SPACE) -> Space:
    file = folder / "space.yaml"
    file.write_text(f"{text}search: {search}\n")
    return load_space(file, gather=gather)


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Space:
    return space_of(tmp_path_factory.mktemp("space"), "{confirm: {top: 3, seeds: 4}}")


def record(
    number: int,
    value: float | None,
    state: TrialState = TrialState.COMPLETE,
    tokens: int = 1000,
    seconds: float = 1.0,
    **more,
) -> TrialRecord:
    evaluation = Evaluation(tokens=tokens, step=1, seconds=seconds, metrics={"eval/loss": value or 0.0})
    evaluations = () if value is None else (evaluation,)
    return TrialRecord(
        number=number,
        state=state,
        values={"lr": 1e-4},
        value=value,
        evaluations=evaluations,
        seconds=seconds,
        **more,
    )


def searched_trials() -> list[TrialRecord]:
    """Trial 3 is the best, then 1, then 2."""
    return [record(number, value) for number, value in enumerate([2.5, 2.1, 2.2, 2.0, 2.6])]


def with_runs(losses: dict[int, list[float | None]], trials: list[TrialRecord] | None = None):
    """The runs of the first seeds; None for one that is missing, infinite for one that diverged."""
    records = list(searched_trials() if trials is None else trials)
    for number, of_trial in losses.items():
        for seed, loss in zip(SEEDS, of_trial, strict=False):
            if loss is None:
                continue
            state = TrialState.COMPLETE if math.isfinite(loss) else TrialState.FAIL
            records.append(record(len(records), loss, state, replicate_of=number, seed=seed))
    return records


def test_the_interval_of_paired_differences_is_that_of_scipys_paired_t_test():
    rng = random.Random(0)
    for count in (2, 3, 5, 30):
        seeds = [rng.gauss(0, 1) for _ in range(count)]  # what a seed does to both
        ours = [2.0 + one + rng.gauss(0.1, 0.05) for one in seeds]
        others = [2.0 + one + rng.gauss(0, 0.05) for one in seeds]
        found = paired_difference(ours, others)
        known = stats.ttest_rel(ours, others).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-9)
        assert found.mean == pytest.approx((found.low + found.high) / 2)


def test_without_a_wish_or_with_one_complete_trial_there_is_no_confirmation(space, tmp_path):
    assert confirmation_of(space_of(tmp_path, "{trials: 3}"), searched_trials()) is None
    assert confirmation_of(space, [record(0, 2.0), record(1, 2.1, TrialState.PRUNED)]) is None
    assert chosen(space, searched_trials()).number == 3 and chosen(space, []) is None


def test_all_candidates_train_under_one_seed_after_the_other_and_the_first_two_at_once(space):
    found = confirmation_of(space, searched_trials())
    assert [one.trial for one in found.candidates] == [3, 1, 2]
    assert found.next_runs == ((3, 8), (1, 8), (2, 8), (3, 9), (1, 9), (2, 9))
    assert found.chosen is None and found.leader is None and not found.is_over
    part = confirmation_of(space, with_runs({3: [2.0, 2.0], 1: [2.0], 2: [2.0]}))
    assert part.next_runs == ((1, 9), (2, 9)) and part.seeds == (8,)
    assert part.chosen is None  # one seed tells nothing


def test_a_round_begins_when_the_one_before_it_is_over(space):
    runs = with_runs({3: [2.0, 2.1], 1: [2.05, 2.08], 2: [2.01, 2.2]})
    assert confirmation_of(space, runs).next_runs == ((3, 10), (1, 10), (2, 10))
    running = [*runs, record(11, None, TrialState.RUNNING, replicate_of=3, seed=10)]
    assert confirmation_of(space, running).next_runs == ((1, 10), (2, 10))
    others = [record(12, 2.0, replicate_of=1, seed=10), record(13, 2.0, replicate_of=2, seed=10)]
    waits = confirmation_of(space, [*running, *others])
    assert waits.next_runs == () and not waits.is_over and waits.seeds == (8, 9)


def test_what_is_told_apart_from_the_leader_gets_no_further_seed(space):
    """The seeds do much to all alike; paired, trial 2 is clearly worse and trial 1 is not."""
    runs = with_runs({3: [2.0, 2.5], 1: [2.02, 2.49], 2: [2.101, 2.6]})
    found = confirmation_of(space, runs)
    assert found.next_runs == ((3, 10), (1, 10))
    assert [one.is_open for one in found.candidates if one.trial == 2] == [False]
    assert found.candidate(2).behind.low > 0 and found.candidate(1).behind.low < 0


def test_it_ends_when_one_candidate_is_left(space):
    found = confirmation_of(space, with_runs({3: [2.3, 2.4], 1: [2.0, 2.1], 2: [2.401, 2.5]}))
    assert found.is_over and found.next_runs == () and found.seeds == (8, 9)
    assert found.chosen == found.leader == 1
    assert chosen(space, with_runs({3: [2.3, 2.4], 1: [2.0, 2.1], 2: [2.401, 2.5]})).number == 1


def test_it_ends_after_as_many_seeds_as_were_asked_for(space):
    runs = {3: [2.0, 2.1, 2.2, 2.3], 1: [2.1, 2.0, 2.3, 2.1], 2: [2.05, 2.08, 2.1, 2.3]}
    found = confirmation_of(space, with_runs(runs))
    assert found.is_over and found.seeds == SEEDS and all(one.is_open for one in found.candidates)


def test_of_tied_trials_the_cheapest_is_chosen_by_tokens_then_by_seconds(space):
    runs = {3: [2.0, 2.1], 1: [2.1, 2.0], 2: [2.05, 2.1]}
    few_tokens = [record(0, 2.5), record(1, 2.1), record(2, 2.2, tokens=500), record(3, 2.0)]
    found = confirmation_of(space, with_runs(runs, few_tokens))
    assert found.chosen == 2 and found.leader in (1, 3) and found.candidates[0].trial == 2
    quick = [record(0, 2.5), record(1, 2.1, seconds=0.5), record(2, 2.2), record(3, 2.0)]
    assert confirmation_of(space, with_runs(runs, quick)).chosen == 1
    nearly = [
        record(0, 2.5),
        record(1, 2.1, tokens=990, seconds=0.95),
        record(2, 2.2, seconds=1.02),
        record(3, 2.0),
    ]
    means = {3: [2.0, 2.1], 1: [2.1, 2.03], 2: [2.05, 2.1]}
    assert confirmation_of(space, with_runs(means, nearly)).chosen == 3  # they cost the same: by the mean
    # The cheapest of all is of no use where it is told apart.
    assert confirmation_of(space, with_runs(runs | {2: [2.3, 2.4]}, few_tokens)).chosen != 2


def test_constraints_are_kept_to_under_the_fresh_seeds_or_another_is_chosen(tmp_path):
    text = SPACE + 'objective: {metric: eval/loss, constraints: {eval/perplexity: "<= 10"}}\n'
    space = space_of(tmp_path, "{confirm: {top: 3, seeds: 2}}", text)

    def measured(lengths: dict[int, list[float]], runs: dict[int, list[float | None]]) -> list[TrialRecord]:
        """Every searched trial keeps to it; the runs have these lengths."""
        trials, given = with_runs(runs), {number: iter(of_trial) for number, of_trial in lengths.items()}
        return [
            with_length(one, 9.0 if one.replicate_of is None else next(given[one.replicate_of]))
            for one in trials
        ]

    tied = {3: [2.0, 2.1], 1: [2.1, 2.0], 2: [2.05, 2.1]}
    found = confirmation_of(space, measured({3: [12, 9], 1: [11, 8], 2: [12, 12]}, tied))
    assert found.chosen == 1  # 9.5 on average; trial 3 has 10.5
    apart = {3: [2.0, 2.1], 1: [2.5, 2.6], 2: [2.05, 2.15]}
    found = confirmation_of(space, measured({3: [12, 12], 1: [8, 8], 2: [11, 11]}, apart))
    assert not found.candidate(1).is_open and found.chosen == 1
    found = confirmation_of(space, measured({3: [13, 13], 1: [12, 12], 2: [11, 11]}, tied))
    assert found.chosen == 2  # which breaks them least


def with_length(one: TrialRecord, length: float) -> TrialRecord:
    evaluations = tuple(
        replace(each, metrics={**each.metrics, "eval/perplexity": length}) for each in one.evaluations
    )
    return replace(one, evaluations=evaluations, decisive=evaluations[-1])


def test_only_fresh_seeds_count_and_not_the_value_that_won_the_search(space):
    lucky = [record(0, 2.5), record(1, 2.1), record(2, 2.2), record(3, 0.1)]
    assert chosen(space, lucky).number == 3
    found = confirmation_of(space, with_runs({3: [2.3, 2.4], 1: [2.0, 2.1], 2: [2.301, 2.4]}, lucky))
    assert found.chosen == 1 and found.candidate(3).mean == pytest.approx(2.35)


def test_more_is_better_under_max(tmp_path):
    text = SPACE + "objective: {metric: eval/token_accuracy}\n"
    space = space_of(tmp_path, "{confirm: {top: 2, seeds: 2}}", text)
    trials = [record(0, 0.5), record(1, 0.9), record(2, 0.8)]
    found = confirmation_of(space, with_runs({1: [0.6, 0.7], 2: [0.8, 0.9]}, trials))
    assert found.chosen == 2
    assert found.candidate(1).behind.mean == pytest.approx(0.2)  # worse by so much
    assert found.candidate(2).values == (0.8, 0.9)


def test_a_candidate_whose_run_fails_is_out(space):
    found = confirmation_of(space, with_runs({3: [math.inf], 1: [2.0], 2: [2.1]}))
    assert not found.candidate(3).is_open and found.next_runs == ((1, 9), (2, 9))
    alone = confirmation_of(space, with_runs({3: [math.inf], 1: [2.0, 2.0], 2: [2.1, math.inf]}))
    assert alone.is_over and alone.chosen == 1
    none = with_runs({3: [math.inf], 1: [math.inf], 2: [math.inf]})
    assert confirmation_of(space, none).is_over and chosen(space, none).number == 3


def test_a_run_that_a_budget_cut_short_is_to_be_had_again(space):
    runs = [*searched_trials(), record(5, 2.4, TrialState.PRUNED, replicate_of=3, seed=8)]
    assert confirmation_of(space, runs).next_runs[0] == (3, 8)


def test_other_candidates_use_the_runs_that_are_there(space):
    """After more trials trial 9 has come in between: it alone has no runs yet."""
    runs = with_runs({3: [2.0, 2.1], 1: [2.1, 2.0], 2: [2.05, 2.1]})
    more = [*runs, record(len(runs), 2.05)]
    found = confirmation_of(space, more)
    assert found.next_runs == ((len(runs), 8), (len(runs), 9)) and found.chosen is None
    assert chosen(space, more).number == 3


def test_the_runs_are_neither_counted_nor_candidates_nor_the_best(space):
    runs = with_runs({3: [1.0, 1.0], 1: [1.0, 1.0], 2: [1.0, 1.0]})
    assert begun(runs) == 5
    assert best_of(runs, space.settings.objective).number == 3
    assert [one.number for one in contenders(space, runs)] == [3, 1, 2]


def test_a_run_under_another_seed_differs_from_its_trial_in_nothing_but_the_seed(space):
    own, again = (asked_config(space, one) for one in (record(3, 2.0), record(5, 2, replicate_of=3, seed=8)))
    assert (own.training.seed, again.training.seed) == (7, 8)
    assert again.model_copy(update={"training": own.training}) == own


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "qmc", "grid"])
def test_proposals_are_the_same_with_runs_in_between(tmp_path, sampler):
    lr = "[1.0e-5, 1.0e-4, 1.0e-3]" if sampler == "grid" else "{log_uniform: [1.0e-5, 1.0e-2]}"
    text = SPACE.replace("[1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2]", f"{lr}, epochs: [1, 2, 3]")
    space = space_of(tmp_path, f"{{trials: 9, sampler: {sampler}, confirm: {{top: 2, seeds: 2}}}}", text)
    plain = Ledger.create(f"sqlite:///{tmp_path}/plain.db", space)
    mixed = Ledger.create(f"sqlite:///{tmp_path}/mixed.db", space)
    asked: dict[Ledger, list] = {plain: [], mixed: []}
    for index in range(9):
        for ledger in (plain, mixed):
            trial = ledger.ask()
            asked[ledger].append(trial.values)
            loss = abs(math.log10(trial.values["lr"]) + 3)
            ledger.report(trial.number, Evaluation(tokens=1, step=1, seconds=1, metrics={"eval/loss": loss}))
            ledger.finish(trial.number, TrialState.COMPLETE)
        if index in (2, 5):
            run = mixed.replicate(mixed.best().number, 8)
            assert run.replicate_of is not None and run.seed == 8
            ledger.report(run.number, Evaluation(tokens=1, step=1, seconds=1, metrics={"eval/loss": 0.0}))
            mixed.finish(run.number, TrialState.COMPLETE)
    assert asked[plain] == asked[mixed]
    assert [one.number for one in mixed.trials() if one.replicate_of is not None] == [3, 7]


def test_a_run_whose_driver_died_before_it_started_is_started_next_and_not_asked_twice(space, tmp_path):
    ledger = Ledger.create(f"sqlite:///{tmp_path}/study.db", space)
    for value in (2.0, 2.1):
        number = ledger.ask().number
        ledger.report(number, Evaluation(tokens=1, step=1, seconds=1, metrics={"eval/loss": value}))
        ledger.finish(number, TrialState.COMPLETE)
    trials = ledger.trials()
    ledger._enqueue(trials[0].values, replicate_of=0, seed=8)  # and then it was killed
    found = confirmation_of(space, ledger.trials())
    assert found.next_runs[0] == (0, 8)
    run = ledger.replicate(0, 8)
    assert (run.number, run.replicate_of, run.seed, run.state) == (2, 0, 8, TrialState.RUNNING)
    assert len(ledger.trials()) == 3 and begun(ledger.trials()) == 2
