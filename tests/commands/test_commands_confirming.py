"""A real sweep whose best trials train again under other seeds: ledger, answer, MLflow, screen; killed and
extended."""

from __future__ import annotations

import json
import shutil

import pytest
from driver_process import Driver, facts_of
from mlflow_content import assert_equal_to_ledger, mlflow_content
from waiting import eventually

from sweeper.commands import load_sweep, open_sweep, resume_sweep, run_sweep, train_config
from sweeper.data import gather_facts
from sweeper.recommend import confirmation_line, results_rows, sure_line, sweep_status
from sweeper.search import TrialState, confirmation_of
from sweeper.space import SweepFolder, load_space, require_closed
from sweeper.track import tracking_uri

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS, SEEDS = 3, (1, 2)


@pytest.fixture(scope="module")
def space_file(tmp_path_factory, write_space):
    """Adapters and dropout, so that a seed has more to do than to order the rows."""
    return write_space(
        tmp_path_factory.mktemp("space"),
        training={
            "lr": {"log_uniform": [1e-3, 1e-1]},
            "scheduler": "constant",
            "epochs": 1,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
            "lora": {"rank": 4, "dropout": 0.1},
        },
        search={"trials": TRIALS, "stopper": "none", "confirm": {"top": 2, "seeds": len(SEEDS)}},
    )


@pytest.fixture(scope="module")
def sweep(space_file, tmp_path_factory):
    return run_sweep(space_file, out=tmp_path_factory.mktemp("sweeps") / "first")


def runs_of(sweep):
    return [one for one in sweep.trials if one.replicate_of is not None]


def test_the_two_best_trials_train_again_under_both_seeds(sweep):
    own = sweep.trials[:TRIALS]
    best = [one.number for one in sorted(own, key=lambda one: one.value)[:2]]
    runs = runs_of(sweep)
    assert [(one.replicate_of, one.seed) for one in runs] == [(n, seed) for seed in SEEDS for n in best]
    assert all(one.state is TrialState.COMPLETE for one in sweep.trials)
    values = [one.value for one in (*runs, *(sweep.trials[number] for number in best))]
    assert len(set(values)) == len(values)  # each seed gives another value


def test_all_runs_are_measured_on_the_same_held_out_rows(sweep):
    said = (sweep.folder.logs_dir / "driver.log").read_text()
    assert said.count("the rows were tokenized in") == 1
    for run in runs_of(sweep):
        assert run.attributes["total_steps"] == sweep.trials[run.replicate_of].attributes["total_steps"]


def test_the_choice_is_that_of_the_fresh_seeds_and_its_model_is_kept(sweep):
    found = confirmation_of(sweep.space, sweep.trials)
    assert found.is_over and found.seeds == SEEDS
    assert sweep.best.number == found.chosen == results_rows(sweep.space, sweep.trials)[0]["trial"]
    assert sweep.folder.trial_model(sweep.best.number).is_dir()
    models = [one.number for one in sweep.trials if sweep.folder.trial_model(one.number).is_dir()]
    assert set(models) == {one.trial for one in found.candidates}


def test_table_sentence_and_status_say_what_the_seeds_say(sweep):
    line = confirmation_line(sweep.space, sweep.trials)
    assert line.startswith(f"chosen by fresh seeds: trial {sweep.best.number} has eval/loss ")
    assert "95 % interval" in line and line in sweep.folder.results_markdown.read_text()
    assert sure_line(sweep.space, sweep.trials) is None
    status = json.loads(json.dumps(sweep_status(sweep.space, sweep.trials, "finished")))
    assert len(status["trials"]) == TRIALS and len(status["runs"]) == 4 and status["sure"] == []
    assert status["best"] == status["confirmation"]["chosen"] == sweep.best.number
    assert {one["replicate_of"] for one in status["runs"]} == {
        one["trial"] for one in status["confirmation"]["trials"]
    }


def test_mlflow_has_the_runs_with_the_trial_that_they_repeat(sweep):
    uri = tracking_uri(sweep.space.settings, sweep.folder.root)
    assert_equal_to_ledger(uri, sweep.folder.root)
    content = mlflow_content(uri, sweep.space.experiment)
    parent = content.pop(sweep.space.name)
    assert parent["tags"]["best_trial"] == str(sweep.best.number)
    tagged = {
        one["tags"]["trial"]: (
            one["tags"].get("replicate_of"),
            one["tags"].get("seed"),
            one["params"]["seed"],
        )
        for one in content.values()
    }
    for trial in sweep.trials:
        again = (str(trial.replicate_of), str(trial.seed), str(trial.seed))
        assert tagged[str(trial.number)] == ((None, None, "0") if trial.replicate_of is None else again)


def test_the_answer_carries_the_evidence_and_gives_the_value_of_each_run_to_the_last_bit(sweep, tmp_path):
    answer = load_space(sweep.folder.best_config, gather=gather_facts)
    require_closed(answer)
    provenance = answer.close({}).provenance
    assert provenance["trials"] == TRIALS and provenance["value"] == sweep.best.value
    evidence = provenance["confirmation"]
    assert evidence["chosen"] == provenance["trial"] == sweep.best.number
    assert evidence["seeds"] == list(SEEDS)
    own = train_config(sweep.folder.best_config, output_dir=tmp_path / "own")
    assert own.metrics["eval/loss"] == own.promised == sweep.best.value
    other = train_config(
        sweep.folder.best_config, overrides=["training.seed=2"], output_dir=tmp_path / "other"
    )
    assert other.metrics["eval/loss"] == evidence["trials"][0]["values"][1]
    assert other.untrained["eval/loss"] == own.untrained["eval/loss"]  # the same held-out rows


def test_a_driver_killed_in_the_middle_of_a_run_costs_nothing(sweep, space_file, tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    driver = Driver("run", space_file, "--out", folder.root).until("under seed 1)")
    assert eventually(lambda: open_sweep(folder)[1].trials()[TRIALS].evaluations)
    driver.process.kill()
    driver.end()
    met = open_sweep(folder)[1].trials()
    assert met[TRIALS].replicate_of is not None and not met[-1].state.is_finished
    result = resume_sweep(folder.root)
    assert facts_of(result) == facts_of(sweep)
    keys = [(one.replicate_of, one.seed) for one in sweep.trials]
    assert [(one.replicate_of, one.seed) for one in result.trials] == keys


def test_more_trials_are_confirmed_again_with_the_runs_that_are_there(sweep, tmp_path):
    root = shutil.copytree(sweep.folder.root, tmp_path / "longer")
    longer = resume_sweep(root, trials=TRIALS + 1)
    assert facts_of(longer)[: len(sweep.trials)] == facts_of(sweep)
    added = longer.trials[len(sweep.trials) :]
    assert added[0].replicate_of is None and longer.ended == f"all {TRIALS + 1} trials were run"
    runs = [(one.replicate_of, one.seed) for one in runs_of(longer)]
    assert len(runs) == len(set(runs))
    found = confirmation_of(longer.space, longer.trials)
    assert found.is_over and longer.best.number == found.chosen
    assert load_sweep(root).best.number == found.chosen
