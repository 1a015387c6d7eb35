"""What a trial forgets: measured beside its loss, from rows that are made once, and unnoticed by training."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sweeper.data import OWN_ANSWERS, retained_folder, stored_retained
from sweeper.errors import DataError
from sweeper.space import Evaluation, Objective
from sweeper.training.best import BestEvaluation, BestSoFar

LOSS, INCREASE = "eval/retention_loss", "eval/retention_increase"


def measured(config, retention, **changes):
    changes |= {"evaluation": Evaluation(retention=retention)}
    return config.model_copy(update=changes)


@pytest.fixture(scope="module")
def forgetful(quick_config, run):
    """A run that learns far too fast, with its configuration, and the same without measuring it."""
    config = measured(quick_config(lr=0.02), OWN_ANSWERS)
    return config, run(config, evaluate_untrained=True), run(quick_config(lr=0.02), evaluate_untrained=True)


def test_an_untrained_model_has_forgotten_nothing_and_one_that_learned_too_fast_has(forgetful):
    _, run, _ = forgetful
    first, last = run.evaluations[0].metrics, run.evaluations[-1].metrics
    assert first[INCREASE] == 0
    assert last[INCREASE] > 0.5
    assert last[LOSS] - last[INCREASE] == pytest.approx(first[LOSS])
    assert first[LOSS] < math.log(2)  # its own greedy answers are what it expects


def test_training_does_not_notice(forgetful):
    _, run, plain = forgetful
    assert run.losses == plain.losses


def test_the_answers_are_made_once_for_a_model_and_read_by_every_trial(forgetful, job_of, rank, run_in):
    config, run, _ = forgetful
    job = job_of(config)
    folder = retained_folder(config, job.cache_dir)
    made = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    rank._retentions.clear()
    gentle = measured(config, OWN_ANSWERS, training=config.training.model_copy(update={"lr": 1e-4}))
    again = run_in(rank, replace(job, config=gentle)).evaluations[-1].metrics
    rank.stop()
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == made
    assert again[INCREASE] < run.evaluations[-1].metrics[INCREASE]
    untrained = json.loads((folder / "untrained.json").read_text())["loss"]
    assert again[LOSS] - again[INCREASE] == pytest.approx(untrained)
    assert len([one for one in job.cache_dir.glob("retained-*") if one.is_dir()]) == 1


def test_an_answer_carries_loss_and_its_prompt_none(forgetful, job_of):
    config, _, _ = forgetful
    rows = stored_retained(retained_folder(config, job_of(config).cache_dir))
    assert rows.rows > 30
    for index in range(rows.rows):
        ids, mask = rows.row(index)
        assert len(ids) <= config.training.max_seq_len
        first = mask.argmax()
        assert first > 0 and mask[first:].all() and not mask[:first].any()


def test_rows_of_a_file_are_read_whatever_the_training_rows_look_like(quick_config, run, tmp_path):
    file = tmp_path / "kept.jsonl"
    file.write_text(
        "\n".join(json.dumps({"question": f"Say {n}", "answer": f"It is {n}."}) for n in range(300))
    )
    config = measured(quick_config(lr=1e-3), str(file))
    last = run(config).evaluations[-1].metrics
    assert math.isfinite(last[LOSS]) and last[INCREASE] != 0


def test_a_file_that_is_not_there_is_told_when_the_space_is_read(quick_config, tmp_path):
    from sweeper.data import gather_facts

    with pytest.raises(DataError, match=r"no\.jsonl"):
        gather_facts(measured(quick_config(), str(tmp_path / "no.jsonl")))


def test_the_best_evaluation_is_the_best_that_keeps_to_the_constraints():
    best = BestSoFar(Objective(at="best", constraints={INCREASE: "<= 0.1"}))
    for step, loss, forgot in ((1, 1.0, 0.2), (2, 0.9, 0.1), (3, 0.8, 0.3), (4, 0.95, 0.0)):
        best.take(BestEvaluation(step=step, tokens=step, metrics={"eval/loss": loss, INCREASE: forgot}))
    assert best.evaluation.step == 2
