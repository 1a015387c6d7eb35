"""Trials of other tools as trials of history."""

from __future__ import annotations

import json
import math
import shutil

import optuna
import pytest
from history_support import past_sweep, past_trial

from sweeper.commands.history import (
    export_history,
    find_sweeps,
    import_experiment,
    import_stored,
    import_study,
)
from sweeper.errors import UserError
from sweeper.history import HistoryFile

MAP = """
metric: eval/loss
mode: min
value: eval_loss
model: {model_type: llama, parameters: 1.2e9, hidden_size: 2048, lora: true}
names: {learning_rate: training.lr, num_train_epochs: training.epochs, lr_scheduler_type: training.scheduler}
words: {linear_with_warmup: linear}
fixed: {training.global_batch_size: 16}
"""


@pytest.fixture
def history(tmp_path) -> HistoryFile:
    return HistoryFile(tmp_path / "history.sqlite3")


@pytest.fixture
def mapping(tmp_path):
    file = tmp_path / "map.yaml"
    file.write_text(MAP)
    return file


def objective(trial: optuna.Trial) -> float:
    lr = trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)
    trial.suggest_categorical("lr_scheduler_type", ["linear_with_warmup", "cosine"])
    trial.suggest_int("num_train_epochs", 1, 3)
    for step in range(1, 4):
        trial.report(abs(math.log10(lr) + 4) + 3 / step, step)
    if trial.number == 3:
        raise optuna.TrialPruned
    return abs(math.log10(lr) + 4) + 1


@pytest.fixture
def study(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    study = optuna.create_study(storage=url, study_name="mine", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(objective, n_trials=5)
    return url, study


def test_an_optuna_study_comes_in_with_its_curves_and_in_our_words(history, study, mapping):
    url, theirs = study
    imported = import_study(history, url, "mine", mapping)
    assert not imported.left_out
    (sweep,) = history.sweeps()
    assert [one.state for one in sweep.trials] == ["COMPLETE"] * 3 + ["PRUNED", "COMPLETE"]
    for trial, their in zip(sweep.trials, theirs.trials, strict=True):
        training = trial.config["training"]
        assert training["lr"] == their.params["learning_rate"] and training["global_batch_size"] == 16
        assert training["scheduler"] in ("linear", "cosine") and len(trial.evaluations) == 3
    assert sweep.trials[0].evaluations[-1][1] == theirs.trials[0].value
    features = sweep.facts.features
    assert (features.model_type, features.parameters, features.lora) == ("llama", 1_200_000_000, True)


def test_a_study_that_is_imported_twice_is_there_once(history, study, mapping):
    for _ in range(2):
        import_study(history, study[0], "mine", mapping)
    assert [len(one.trials) for one in history.sweeps()] == [5]


def test_a_study_that_is_not_there_is_named_with_those_that_are(history, study, mapping):
    with pytest.raises(UserError, match="its studies are: mine"):
        import_study(history, study[0], "yours", mapping)


def test_an_mlflow_experiment_comes_in_and_what_cannot_be_used_is_counted(
    history, tmp_path, mapping, migrated
):
    from mlflow import MlflowClient

    shutil.copy(migrated, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("theirs", artifact_location=str(tmp_path / "artifacts"))
    for number, lr in enumerate(["1e-4", "3e-4", "a lot", "1e-3"]):
        run = client.create_run(experiment).info.run_id
        client.log_param(run, "learning_rate", lr)
        client.log_param(run, "num_train_epochs", "2")
        client.log_param(run, "output_dir", "/somewhere")
        for step in (10, 20):
            client.log_metric(run, "eval_loss", 2.0 + number - step / 100, step=step)
        client.set_terminated(run)
    client.log_param(client.create_run(experiment).info.run_id, "learning_rate", "1")  # still running
    imported = import_experiment(history, uri, "theirs", mapping)
    assert imported.left_out == {"learning_rate: a lot is no value of training.lr": 1}
    (sweep,) = history.sweeps()
    assert [one.config["training"]["lr"] for one in sweep.trials] == [1e-4, 3e-4, 1e-3]
    assert sweep.trials[0].evaluations == ((10.0, 1.9), (20.0, 1.8))
    assert sweep.trials[0].config["training"].keys() == {"lr", "epochs", "global_batch_size"}
    with pytest.raises(UserError, match=r"its experiments are: .*theirs"):
        import_experiment(history, uri, "ours", mapping)
    mapping.write_text(MAP.replace("eval_loss", "loss"))
    with pytest.raises(UserError, match="there are: eval_loss"):
        import_experiment(history, uri, "theirs", mapping)


def test_all_that_is_wrong_with_a_mapping_is_said_at_once(history, study, mapping):
    mapping.write_text(
        "metric: eval/loss\nmode: min\nmodel: {model_tipe: llama}\n"
        "names: {learning_rate: training.lrr}\nfixed: {training.epochs: many}\n"
    )
    with pytest.raises(UserError) as caught:
        import_study(history, study[0], "mine", mapping)
    said = str(caught.value)
    assert "did you mean training.lr?" in said and "model_tipe" in said and "training.epochs: many" in said
    mapping.write_text("metric: eval/loss\nmode: low\n")
    with pytest.raises(UserError) as caught:
        import_study(history, study[0], "mine", mapping)
    assert "mode" in str(caught.value) and "names" in str(caught.value)
    with pytest.raises(UserError, match=r"no-map\.yaml"):
        import_study(history, study[0], "mine", mapping.with_name("no-map.yaml"))


def test_what_is_exported_comes_in_elsewhere_as_it_was(history, tmp_path):
    for name in ("one", "two"):
        sweep = past_sweep(name, [past_trial(0, 1.0), past_trial(1, None)])
        history.write(sweep.facts, sweep.trials)
    exported = tmp_path / "exported.json"
    exported.write_text(export_history(history, []))
    elsewhere = HistoryFile(tmp_path / "elsewhere.sqlite3")
    import_stored(elsewhere, exported)
    assert elsewhere.sweeps() == history.sweeps()
    exported.write_text(export_history(history, ["two"]))
    assert [one["facts"]["name"] for one in json.loads(exported.read_text())["sweeps"]] == ["two"]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9, "sweeps": []}', '{"format": 1}'])
def test_a_file_that_is_no_export_is_refused_and_nothing_is_written(history, tmp_path, content):
    file = tmp_path / "wrong.json"
    file.write_text(content)
    with pytest.raises(UserError, match="neither a sweep's folder nor an exported history"):
        import_stored(history, file)
    assert not history.path.exists()


def test_sweeps_are_found_by_the_beginning_of_their_id_or_by_name(history):
    for name in ("math", "maths"):
        sweep = past_sweep(name, [past_trial(0, 1.0)])
        history.write(sweep.facts, sweep.trials)
    assert [one.facts.name for one in find_sweeps(history, ["maths"])] == ["maths"]
    with pytest.raises(UserError) as caught:
        find_sweeps(history, ["mat", "physics"])
    assert "several sweeps are called so" in str(caught.value) and "physics" in str(caught.value)
