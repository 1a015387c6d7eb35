"""Ranking, the final table, the sentence and the status."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from recommend_helpers import SPACE, make_space, trial
from rich.console import Console

from sweeper.recommend import (
    best_record,
    compact,
    improvement,
    result_rows,
    results_csv,
    results_markdown,
    results_rows,
    results_table,
    running_lines,
    saved_line,
    summary_line,
    sweep_status,
    write_results,
)
from sweeper.search import Evaluation, TrialRecord, TrialState
from sweeper.space import Space, SweepFolder
from sweeper.training import Moved
from sweeper.training.moved import MovedFile

ACCURACY = SPACE + "objective: {metric: eval/token_accuracy, mode: max}\n"


def some_trials() -> list[TrialRecord]:
    return [
        trial(0, 1.056, is_default=True, tokens=60_000),
        trial(1, 0.9, TrialState.PRUNED, reason="median"),
        trial(2, 1.2, lr=1e-5),
        trial(3, None, TrialState.FAIL, reason="the loss is not a number"),
        trial(4, 0.812, lr=1.2345e-3, tokens=180_000),
    ]


def text_of(space: Space, trials: list[TrialRecord], width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(results_table(space, trials))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_only_complete_trials_are_ranked_however_good_a_stopped_one_looks(space: Space) -> None:
    rows = result_rows(space, some_trials())
    assert [(row.trial, row.rank) for row in rows] == [(4, 1), (0, 2), (2, 3), (1, None), (3, None)]


def test_of_equal_trials_the_earlier_one_is_best(space: Space) -> None:
    best = best_record(space, [trial(0, 0.5), trial(1, 0.5)])
    assert best is not None and best.number == 0


def test_a_loss_that_is_not_a_number_never_wins(space: Space) -> None:
    best = best_record(space, [trial(0, math.nan), trial(1, 2.0), trial(2, -math.inf)])
    assert best is not None and best.number == 1


def test_more_is_better_where_the_objective_says_so(tmp_path: Path) -> None:
    space = make_space(tmp_path, ACCURACY)
    best = best_record(space, [trial(0, 0.5, is_default=True), trial(1, 0.6)])
    assert best is not None and best.number == 1
    assert improvement(space, 0.6, 0.5) == pytest.approx(0.2)


def test_improvement_is_the_share_of_the_default(space: Space) -> None:
    assert improvement(space, 0.75, 1.0) == pytest.approx(0.25)
    assert improvement(space, 1.25, 1.0) == pytest.approx(-0.25)
    assert improvement(space, 0.5, 0.0) is None
    assert improvement(space, math.nan, 1.0) is None
    assert improvement(space, 1.0, None) is None


def test_the_table_marks_the_default_and_says_how_much_better_or_worse(space: Space) -> None:
    printed = [line.split() for line in text_of(space, some_trials()).splitlines()]
    lines = {words[1]: " ".join(words) for words in printed if len(words) > 5}
    assert "23.1% better" in lines["4"] and "0.00123" in lines["4"] and "180k" in lines["4"]
    assert "default" in lines["0"]
    assert "13.6% worse" in lines["2"] and "1e-05" in lines["2"]
    assert "pruned" in lines["1"] and "better" not in lines["1"]


def test_a_narrow_terminal_keeps_what_makes_the_point(space: Space) -> None:
    printed = text_of(space, some_trials(), width=60)
    assert "23.1% better" in printed and "0.8120" in printed and "complete" in printed
    assert len(printed.splitlines()) < 14


def test_parameters_have_the_shortest_unique_name(space: Space) -> None:
    header = results_markdown(space, some_trials()).splitlines()[2]
    assert header.split(" | ")[5:9] == ["lr", "scheduler", "epochs", "lora.rank"]


def test_the_csv_has_every_trial_with_full_precision(space: Space) -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(space, some_trials()))))
    assert [row["trial"] for row in rows] == ["4", "0", "2", "1", "3"]
    assert rows[0]["lr"] == "0.0012345" and rows[0]["eval/loss"] == "0.812"
    assert rows[0]["better_than_default_percent"] == "23.106"
    assert rows[4]["eval/loss"] == "" and rows[4]["reason"] == "the loss is not a number"


def test_rows_of_all_trials_have_the_same_keys(space: Space) -> None:
    rows = results_rows(space, some_trials())
    assert len({tuple(row) for row in rows}) == 1


def test_the_table_of_no_trials_is_empty_not_an_error(space: Space) -> None:
    assert "0 trials" in text_of(space, [])
    assert results_csv(space, []) == ""
    assert "no best configuration" in results_markdown(space, [])


def test_the_sentence_says_by_how_much_the_default_was_beaten(space: Space) -> None:
    assert summary_line(space, some_trials()) == (
        "trial 4 reached eval/loss 0.812, 23.1% below the default configuration's 1.056"
    )


def test_the_sentence_says_above_where_more_is_better(tmp_path: Path) -> None:
    space = make_space(tmp_path, ACCURACY)
    said = summary_line(space, [trial(0, 0.5, is_default=True), trial(1, 0.6)])
    assert said == "trial 1 reached eval/token_accuracy 0.6, 20.0% above the default configuration's 0.5"


def test_the_sentence_is_honest_when_the_default_was_the_best(space: Space) -> None:
    said = summary_line(space, [trial(0, 0.5, is_default=True), trial(1, 0.6)])
    assert "the default configuration (trial 0) was itself the best of 2 trials" in said


def test_the_sentence_claims_nothing_where_the_default_was_not_trained_to_its_end(space: Space) -> None:
    trials = [trial(0, 2.0, TrialState.PRUNED, is_default=True), trial(1, 0.6)]
    assert "was not trained to its end (PRUNED)" in summary_line(space, trials)
    assert "was not tried" in summary_line(space, [trial(1, 0.6)])
    assert "none of 1 trials" in summary_line(space, trials[:1])


def test_the_status_is_strict_json_of_the_documented_shape(space: Space) -> None:
    trials = [*some_trials(), trial(5, math.nan, TrialState.FAIL)]
    status = json.loads(json.dumps(sweep_status(space, trials, "finished"), allow_nan=False))
    assert (status["name"], status["state"], status["best"]) == ("demo", "finished", 4)
    assert status["wanted"] == space.settings.search.trials
    assert set(status["trials"][0]) == {
        "number",
        "state",
        "params",
        "value",
        "evaluations",
        "reason",
        "seconds",
        "same_as",
        "forked_from",
        "saved_tokens",
    }
    assert status["saved_tokens"] == 0
    assert status["trials"][0]["evaluations"][0]["tokens"] == 60_000
    assert status["trials"][5]["value"] is None


def test_what_was_not_trained_again_is_told_of_each_trial_and_of_the_sweep(space: Space) -> None:
    fork = {"trial": 0, "step": 4, "tokens": 250}
    trials = [
        trial(0, 1.0),
        replace(trial(1, 1.0), attributes={"same_as": 0, "saved_tokens": 1000}, reason="same as trial 0"),
        replace(trial(2, 0.9), attributes={"fork": fork, "saved_tokens": 250}),
        replace(trial(3, 0.8), attributes={"fork": {**fork, "lost": True}, "saved_tokens": 0}),
    ]
    told = sweep_status(space, trials, "finished")
    assert told["saved_tokens"] == 1250
    found = [(one["same_as"], one["forked_from"], one["saved_tokens"]) for one in told["trials"]]
    assert found == [(None, None, 0), (0, None, 1000), (None, 0, 250), (None, None, 0)]
    rows = {row["trial"]: row for row in results_rows(space, trials)}
    assert [(rows[n]["same_as"], rows[n]["forked_from"]) for n in range(4)] == [one[:2] for one in found]
    said = saved_line(trials)
    assert "1,250 training tokens" in said and "trials 1 (same as 0), 2 (from 0)" in said
    assert said in results_markdown(space, trials)
    assert saved_line(trials[:1]) is None


def test_the_status_says_how_far_a_running_trial_is_between_its_evaluations(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    running = replace(trial(3, 1.0, TrialState.RUNNING), attributes={"total_tokens": 1000})
    assert running_lines([running], folder) == []
    MovedFile(folder.trial_progress(3)).write(Moved(step=4, tokens=420, tokens_per_s=4321.0))
    assert running_lines([trial(2, 1.0), running], folder) == ["trial 3 at 42%, 4,321 tokens/s"]
    told = Moved(step=4, tokens=420, tokens_per_s=4321.0, total_tokens=2000)
    MovedFile(folder.trial_progress(3)).write(told)
    unprepared = replace(running, attributes={})
    assert running_lines([unprepared], folder) == ["trial 3 at 21%, 4,321 tokens/s"]


def test_where_the_best_evaluation_counts_everything_says_which_it_was(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE + "objective: {at: best}\n")
    curve = [
        Evaluation(tokens=tokens, step=tokens // 100, seconds=1.0, metrics={"eval/loss": loss})
        for tokens, loss in ((1000, 2.0), (2000, 1.0), (3000, 1.5))
    ]
    attributes = {"total_tokens": 3000, "config": {"training": {"epochs": 2.0}}}
    found = replace(
        trial(4, 1.0), evaluations=tuple(curve), decisive=curve[1], attributes=attributes, is_default=True
    )
    (row,) = results_rows(space, [found])
    assert (row["eval/loss"], row["value_tokens"], row["tokens"]) == (1.0, 2000, 3000)
    assert row["value_epoch"] == pytest.approx(4 / 3)
    assert "| epoch 1.3 |" in results_markdown(space, [found])
    assert "eval/loss 1 after 2,000 of 3,000 tokens (epoch 1.3)" in summary_line(space, [found])
    (told,) = sweep_status(space, [found], "finished")["trials"]
    assert (told["value"], told["value_tokens"]) == (1.0, 2000)
    assert "value_tokens" not in results_rows(make_space(tmp_path), [found])[0]


def test_the_status_of_a_sweep_without_a_complete_trial_has_no_best(space: Space) -> None:
    assert sweep_status(space, [trial(0, 1.0, TrialState.RUNNING)], "running")["best"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (0.000123456, "0.000123"),
        (2.0, "2"),
        (512, "512"),
        (12_345, "12.3k"),
        (4_500_000, "4.5M"),
        (True, "yes"),
        (None, "-"),
        ("cosine", "cosine"),
    ],
)
def test_values_are_short_in_the_table(value: float | str | None, text: str) -> None:
    assert compact(value) == text


def test_the_sentence_ends_with_the_untrained_model_where_it_was_measured(space: Space) -> None:
    said = summary_line(space, some_trials(), untrained=2.5)
    assert said.endswith("the default configuration's 1.056 (untrained model: 2.5)")


def test_the_table_is_written_into_the_sweeps_folder(space: Space, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    written = write_results(space, some_trials(), folder)
    assert [path.suffix for path in written] == [".csv", ".md"]
    assert written[0].read_text() == results_csv(space, some_trials())
    assert "23.1% better" in written[1].read_text()
