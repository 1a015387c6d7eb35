from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from search_support import DISCRETE, MIXED, evaluation, sweep, train

from sweeper.errors import SpaceFileError, SweepFolderError
from sweeper.search import Ledger, TrialState


def test_the_first_trial_is_the_rules_of_thumb(space_of, url):
    space = space_of()
    first = Ledger.create(url, space).ask()
    assert first.number == 0
    assert first.state is TrialState.RUNNING
    assert first.is_default
    assert first.values == space.default_values()


def test_only_the_first_trial_is_the_default(space_of, url):
    ledger = Ledger.create(url, space_of())
    sweep(ledger, 4, lambda values: 1.0)
    assert [record.is_default for record in ledger.trials()] == [True, False, False, False]
    assert ledger.default().number == 0


def test_reopening_keeps_everything(space_of, url):
    space = space_of()
    ledger = Ledger.create(url, space)
    ledger.note_untrained(4.5)
    ledger.note_sweep(versions={"torch": "2"}, started=1.5)
    first = ledger.ask()
    ledger.note(first.number, config={"training": {"lr": 1e-4}}, total_tokens=300)
    ledger.report(first.number, evaluation(100, 3.0, **{"eval/perplexity": 20.0}))
    ledger.report(first.number, evaluation(200, 2.5))
    ledger.finish(first.number, TrialState.COMPLETE)
    second = ledger.ask()
    ledger.report(second.number, evaluation(100, 4.0))
    ledger.finish(second.number, TrialState.PRUNED, "hopeless")
    ledger.ask()
    before, attributes = ledger.trials(), ledger.sweep_attributes()
    ledger.close()

    again = Ledger.open(url, space)
    assert again.trials() == before
    assert again.untrained == 4.5
    assert again.sweep_attributes() == attributes == {"versions": {"torch": "2"}, "started": 1.5}
    done, stopped, running = again.trials()
    assert (done.state, done.value) == (TrialState.COMPLETE, 2.5)
    assert [e.tokens for e in done.evaluations] == [100, 200]
    assert done.evaluations[0].metrics == {"eval/loss": 3.0, "eval/perplexity": 20.0}
    assert done.evaluations[0].step == 10
    assert done.attributes == {"config": {"training": {"lr": 1e-4}}, "total_tokens": 300}
    assert done.seconds is not None
    assert (stopped.state, stopped.value, stopped.reason) == (TrialState.PRUNED, 4.0, "hopeless")
    assert running.state is TrialState.RUNNING


def test_values_keep_their_types(space_of, url):
    space = space_of("\n  packing: false\n  lr: {log_uniform: [1.0e-5, 1.0e-3]}\n  epochs: [1, 2]\n")
    first = Ledger.create(url, space).ask()
    reread = Ledger.open(url, space).trials()[0].values
    assert {k: type(v) for k, v in reread.items()} == {k: type(v) for k, v in first.values.items()}
    assert space.close(reread) == space.close(first.values)


def test_another_reader_of_the_study_sees_parameters_curves_and_states(space_of, url):
    space = space_of()
    ledger = Ledger.create(url, space)
    first = ledger.ask()
    train(ledger, first, 3.0, 2.0)
    second = ledger.ask()
    ledger.report(second.number, evaluation(100, 9.0))
    ledger.finish(second.number, TrialState.PRUNED, "hopeless")
    study = optuna.load_study(study_name=space.name, storage=url)
    done, stopped = study.trials
    assert done.params == first.values
    assert done.intermediate_values == {100: 3.0, 200: 2.0}
    assert (done.state.name, done.value) == ("COMPLETE", 2.0)
    assert (stopped.state.name, stopped.value) == ("PRUNED", 9.0)
    assert study.best_trial.number == 0


def test_an_inactive_dimension_has_no_value(space_of, url):
    ledger = Ledger.create(url, space_of())
    asked = sweep(ledger, 8, lambda values: values["lr"])
    schedulers = {values["scheduler"] for values in asked}
    assert len(schedulers) > 1 and "cosine" in schedulers
    assert all(("final_lr_ratio" in values) == (values["scheduler"] == "cosine") for values in asked)
    study = optuna.load_study(study_name="trying", storage=url)
    for record, trial in zip(ledger.trials(), study.trials, strict=True):
        assert list(record.values) == list(trial.params)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_objective_that_is_no_number_never_ends_complete(space_of, url, value):
    ledger = Ledger.create(url, space_of())
    first = ledger.ask()
    train(ledger, first, 3.0, value)
    (record,) = ledger.trials()
    assert record.state is TrialState.FAIL
    assert str(value) in record.reason and "200 tokens" in record.reason
    assert record.evaluations[-1].metrics["eval/loss"] == pytest.approx(value, nan_ok=True)
    assert ledger.best() is None


@pytest.mark.parametrize(
    ("at", "mode", "values", "state", "tokens"),
    [
        ("end", "min", [3.0, 1.0, 2.0], TrialState.COMPLETE, 300),
        ("best", "min", [3.0, 1.0, 2.0], TrialState.COMPLETE, 200),
        ("best", "min", [3.0, 1.0, 1.0], TrialState.COMPLETE, 200),  # the earliest of equal ones
        ("best", "max", [3.0, 1.0, 2.0], TrialState.COMPLETE, 100),
        ("best", "min", [math.nan, 2.0, -math.inf], TrialState.COMPLETE, 200),
        ("best", "min", [math.nan, math.inf], TrialState.FAIL, 200),
    ],
)
def test_a_trial_is_judged_by_its_end_or_by_its_best_evaluation(
    space_of, url, at, mode, values, state, tokens
):
    metric = "eval/token_accuracy" if mode == "max" else "eval/loss"
    space = space_of(MIXED, f"objective.at={at}", f"objective.metric={metric}")
    ledger = Ledger.create(url, space)
    number = ledger.ask().number
    for index, value in enumerate(values, start=1):
        ledger.report(number, evaluation(100 * index, 9.0, **{metric: value}))
    ledger.finish(number, TrialState.COMPLETE)
    record = Ledger.open(url, space).trial(number)
    assert (record.state, record.decisive.tokens) == (state, tokens)
    (trial,) = optuna.load_study(study_name="trying", storage=url).trials
    assert [*trial.intermediate_values] == [e.tokens for e in record.evaluations]  # stoppers see the curve
    if state is TrialState.COMPLETE:
        assert trial.value == record.value == values[tokens // 100 - 1] == ledger.best().value


def test_a_trial_without_an_evaluation_never_ends_complete(space_of, url):
    ledger = Ledger.create(url, space_of())
    ledger.finish(ledger.ask().number, TrialState.COMPLETE)
    (record,) = ledger.trials()
    assert (record.state, record.value) == (TrialState.FAIL, None)
    assert "without a single evaluation" in record.reason


def test_a_failed_trial_keeps_its_reason(space_of, url):
    ledger = Ledger.create(url, space_of())
    ledger.finish(ledger.ask().number, TrialState.FAIL, "the loss is nan at step 3")
    assert ledger.trials()[0].reason == "the loss is nan at step 3"


def test_a_finished_trial_cannot_end_again(space_of, url):
    ledger = Ledger.create(url, space_of())
    train(ledger, ledger.ask(), 1.0)
    with pytest.raises(ValueError, match="COMPLETE"):
        ledger.finish(0, TrialState.FAIL, "late")
    with pytest.raises(ValueError, match="RUNNING"):
        ledger.finish(0, TrialState.RUNNING)


def test_a_finished_trial_still_takes_notes(space_of, url):
    space = space_of()
    ledger = Ledger.create(url, space)
    record = ledger.ask()
    ledger.note(record.number, checkpoint="a")
    train(ledger, record, 1.0)
    ledger.note(record.number, checkpoint=None, kept=False)
    assert Ledger.open(url, space).trials()[0].attributes == {"checkpoint": None, "kept": False}
    assert ledger.sweep_attributes() == {}


def test_a_note_cannot_overwrite_what_the_ledger_keeps(space_of, url):
    ledger = Ledger.create(url, space_of())
    record = ledger.ask()
    with pytest.raises(ValueError, match="values"):
        ledger.note(record.number, values={})
    with pytest.raises(ValueError, match="untrained"):
        ledger.note_sweep(untrained=1.0)


@pytest.mark.parametrize(
    ("metric", "mode", "number"), [("eval/loss", "min", 1), ("eval/token_accuracy", "max", 2)]
)
def test_the_best_is_by_mode_and_the_earliest_of_equals(space_of, url, metric, mode, number):
    space = space_of("\n  lr: auto\n", f"objective.metric={metric}", f"objective.mode={mode}")
    ledger = Ledger.create(url, space)
    for value in (2.0, 1.0, 3.0, 1.0, 3.0):
        record = ledger.ask()
        ledger.report(record.number, evaluation(100, value, **{metric: value}))
        ledger.finish(record.number, TrialState.COMPLETE)
    assert ledger.best().number == number


def test_a_stopped_trial_is_never_the_best(space_of, url):
    ledger = Ledger.create(url, space_of())
    train(ledger, ledger.ask(), 2.0)
    second = ledger.ask()
    ledger.report(second.number, evaluation(100, 0.5))
    ledger.finish(second.number, TrialState.PRUNED, "why not")
    assert ledger.best().number == 0


DRIVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from search_support import evaluation, gather
from sweeper.search import Ledger
from sweeper.space import load_space
space = load_space(Path(sys.argv[3]), gather=gather)
ledger = Ledger.create(sys.argv[2], space)
record = ledger.ask()
ledger.report(record.number, evaluation(100, 3.0))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_drivers_trial_can_go_on_under_its_own_number(space_of, url, tmp_path):
    space = space_of()
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", DRIVER, tests, url, str(space.source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "ready\n"
        os.kill(driver.pid, signal.SIGKILL)

    ledger = Ledger.open(url, space)
    (orphan,) = ledger.trials()
    assert orphan.state is TrialState.RUNNING and orphan.is_default
    train(ledger, orphan, 0.5)
    finished = ledger.trial(orphan.number)
    assert (finished.state, finished.value, finished.values) == (TrialState.COMPLETE, 0.5, orphan.values)
    assert ledger.ask().values != orphan.values


def test_values_that_were_chosen_but_not_started_are_asked_next(space_of, url, monkeypatch):
    space = space_of()
    ledger = Ledger.create(url, space)
    train(ledger, ledger.ask(), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_start", ledger._enqueue)  # an earlier version, killed between two commits
        ledger.ask()
    waiting = ledger.trials()[1]
    again = Ledger.open(url, space).ask()
    assert (again.number, again.values) == (1, waiting.values)


def test_a_second_sweep_of_the_same_name_is_refused(space_of, url):
    Ledger.create(url, space_of())
    with pytest.raises(SweepFolderError, match="already there"):
        Ledger.create(url, space_of())


def test_two_sweeps_share_one_database(space_of, url):
    one, other = (Ledger.create(url, space_of(name=name)) for name in ("one", "other"))
    one.ask()
    assert (len(one.trials()), len(other.trials())) == (1, 0)
    with pytest.raises(SweepFolderError, match="one, other"):
        Ledger.open(url, space_of(name="third"))


def test_opening_a_missing_database_creates_nothing(space_of, tmp_path):
    with pytest.raises(SweepFolderError, match="no sweep's database"):
        Ledger.open(f"sqlite:///{tmp_path}/none.db", space_of())
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_database_is_refused(space_of, url, tmp_path):
    (tmp_path / "study.db").write_text("no database, but long enough to be taken for one\n" * 20)
    with pytest.raises(SweepFolderError, match="cannot be opened"):
        Ledger.open(url, space_of())


def test_a_sweep_does_not_go_on_with_other_open_values(space_of, url):
    Ledger.create(url, space_of(DISCRETE)).ask()
    changed = Ledger.open(url, space_of(DISCRETE.replace("1.0e-3", "2.0e-3")))
    assert len(changed.trials()) == 1
    with pytest.raises(SpaceFileError, match="lr"):
        changed.ask()


def test_a_longer_budget_or_another_sampler_goes_on(space_of, url):
    Ledger.create(url, space_of(DISCRETE)).ask()
    assert Ledger.open(url, space_of(DISCRETE, "search.trials=99", "search.sampler=random")).ask().number == 1


def test_what_is_refused_is_not_committed_and_proposed_again(space_of, url):
    ledger = Ledger.create(url, space_of())
    train(ledger, ledger.ask(), 3.0)
    refused = []
    assert ledger.ask(lambda values: bool(refused.append(values))) is None
    assert len(ledger.trials()) == 1
    again = Ledger.open(url, space_of()).ask()
    assert (again.number, dict(again.values)) == (1, dict(refused[0]))


def test_a_reader_in_another_process_sees_each_commit(space_of, url):
    space = space_of()
    ledger = Ledger.create(url, space)
    record = ledger.ask()
    reader = Ledger.open(url, space)
    for tokens in (100, 200, 300):
        ledger.report(record.number, evaluation(tokens, 1.0))
        assert reader.trials()[0].evaluations[-1].tokens == tokens


def test_a_record_is_strict_json(space_of, url):
    ledger = Ledger.create(url, space_of())
    record = ledger.ask()
    ledger.note(record.number, config={"a": [1, 2.5, "x", None]})
    train(ledger, record, 3.0, math.nan)
    ledger.note_untrained(math.inf)
    tree = ledger.trials()[0].to_dict()
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert tree["state"] == "FAIL"
    assert tree["evaluations"][1]["metrics"] == {"eval/loss": None}
    assert ledger.untrained == math.inf


def test_importing_the_room_imports_no_optuna():
    heavy = "('optuna', 'sqlalchemy', 'numpy', 'torch')"
    code = f"import sys, sweeper.search; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_nothing_is_said_on_the_screen(space_of, url, capfd):
    ledger = Ledger.create(url, space_of("\n  lr: auto\n", "search.sampler=qmc"))
    sweep(ledger, 3, lambda values: math.nan)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
